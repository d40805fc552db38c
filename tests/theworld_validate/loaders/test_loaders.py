"""Loaders that people really have, end to end: verdict, first root, number of roots, and what was kept."""

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.loaders import mistakes
from tests.theworld_validate.loaders.asking import ask
from tests.theworld_validate.subjects import loaders
from theworld.synthetic import SyntheticCheckpoint

_STATE = ("config", "modules", "parameters", "buffers", "globals")


def named(loader: object) -> str:
    return f"{loader.__module__}:{loader.__name__}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("loader", [loaders.resharded, loaders.old_dtype_word, loaders.device_map_cpu, loaders.auto])
def test_right_ways_pass(tiny: SyntheticCheckpoint, loader: object) -> None:
    answer = ask(tiny.gemma, named(loader))
    assert (answer.exit_code, answer.failed) == (0, set())
    assert answer.passed(*_STATE, "probe.text", "round_trip")


def test_a_fresh_adapter_is_one_root_and_the_bases_bits_are_equal(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.peft_fresh), probes=("image",))
    assert answer.exit_code == 1
    assert len(answer.roots) == 1
    assert answer.root.code == "modules.class"
    assert answer.root.cause is not None
    assert answer.root.cause.startswith("adapter: ")
    parameters = answer.checks["parameters"].findings
    assert {finding.field for finding in parameters} == {"extra", "requires_grad"}  # no bits of the base differ
    assert any("lora_A" in finding.location for finding in parameters)
    assert answer.passed("buffers", "config", "round_trip")


def test_a_merged_adapter_is_said(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.peft_merged), probes=("image",))
    assert answer.exit_code == 1
    assert [key.partition("@")[0] for key in answer.roots] == ["parameters.requires_grad", "globals.value"]
    assert answer.failed == {"parameters", "globals", "gradients"}


def test_a_merged_adapter_can_be_allowed(tiny: SyntheticCheckpoint) -> None:
    allowed = ("--allow", "requires_grad", "--allow", "rng")
    answer = ask(tiny.gemma, named(loaders.peft_merged), *allowed, probes=("image",))
    assert (answer.exit_code, answer.failed) == (0, set())
    assert answer.checks["allowed.requires_grad"].measurements["places"] == 145
    assert "no gradient was compared" in str(answer.checks["allowed.requires_grad"].reason)
    assert "gradients" not in answer.checks
    assert answer.report.plan is not None
    assert "gradients" not in answer.report.plan.sections


def test_what_is_allowed_lets_nothing_else_through(tiny: SyntheticCheckpoint) -> None:
    allowed = ("--allow", "requires_grad", "--allow", "rng")
    answer = ask(tiny.gemma, named(loaders.peft_merged_trained), *allowed, probes=("image",))
    assert answer.exit_code == 1
    assert [key.partition("@")[0] for key in answer.roots] == ["parameters.digest"] * 2  # in the tower, and in the text


@pytest.mark.parametrize(
    ("loader", "root"),
    [
        (loaders.compiled_outside, "modules.extra@(wrapper)"),
        (loaders.compiled_in_place, "modules.compiled@(model)"),
    ],
)
def test_what_is_compiled_is_compared(tiny: SyntheticCheckpoint, loader: object, root: str) -> None:
    answer = ask(tiny.gemma, named(loader), probes=("cached_decode",))
    assert (answer.exit_code, answer.roots, answer.failed) == (1, [root], {"modules"})
    assert answer.root.cause is not None
    assert answer.root.cause.startswith("compiled: ")
    assert answer.passed("parameters", "buffers", "round_trip", "probe.cached_decode")


def test_offloaded_weights_are_read_where_they_lie(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.offloaded), probes=("image",))
    assert (answer.exit_code, answer.roots) == (1, ["modules.hooks@(model)"])
    assert answer.failed == {"modules", "gradients"}
    assert answer.passed("parameters", "buffers", "probe.image", "round_trip")
    (gradients,) = answer.checks["gradients"].findings
    assert "cannot be asked this" in gradients.message
    assert "fails at" not in f"{gradients.message} {gradients.cause}"  # nobody's code is at fault


def test_a_text_model_alone_names_what_is_gone(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.causal_only))
    assert (answer.exit_code, answer.roots) == (1, ["modules.transformers_class@(model)"])
    assert "Gemma3ForCausalLM" in str(answer.root.actual)
    assert answer.root.cause is not None
    assert "model.vision_tower" in answer.root.cause


def test_a_tied_table_that_is_saved_twice_alike_is_shown(tiny: SyntheticCheckpoint) -> None:
    """transformers ties equal tables again when it loads them: nothing is lost."""
    answer = ask(tiny.gemma, named(mistakes.GatheredSave))
    assert (answer.exit_code, answer.failed) == (0, set())
    shown = {finding.location: finding.severity for finding in answer.checks["round_trip"].findings}
    assert shown["written/lm_head.weight"] == "warning"


def test_a_tied_table_that_is_saved_twice_and_differs(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.GatheredAndDrifted))
    assert (answer.exit_code, answer.roots) == (1, ["round_trip.written_extra@written/lm_head.weight"])
    assert answer.root.cause is not None
    assert "hold a tied table twice" in answer.root.cause
    untied = [finding.location for finding in answer.findings if finding.field == "tied_to"]
    assert untied == ["parameters/lm_head.weight", "base/parameters/lm_head.weight"]
    assert answer.failed == {"round_trip"}


def test_a_trained_head_of_its_own_is_not_thrown_away(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.merged_head), probes=("image",))
    assert (answer.exit_code, answer.roots) == (1, ["parameters.tied_to@lm_head.weight"])
    assert answer.root.remedy is not None
    assert answer.root.remedy.startswith("to keep both tables, set tie_word_embeddings=False")


@pytest.mark.parametrize(
    ("loader", "root", "cause"),
    [
        (mistakes.CountIgnored, "outputs.digest@text/loss_by_count", "loss count: "),
        (mistakes.StaticWrong, "generation.digest@text/static_logits[0]", "static cache: "),
    ],
)
def test_what_serving_and_training_ask_is_asked(
    tiny: SyntheticCheckpoint, loader: object, root: str, cause: str
) -> None:
    answer = ask(tiny.gemma, named(loader))
    assert (answer.exit_code, answer.roots, answer.failed) == (1, [root], {"probe.text"})
    assert answer.root.cause is not None
    assert answer.root.cause.startswith(cause)


def test_keys_that_nobody_else_can_load(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.OddKeys))
    assert (answer.exit_code, answer.failed, len(answer.roots)) == (1, {"round_trip"}, 1)
    assert answer.root.code == "round_trip.written_missing"
    assert answer.root.cause is not None
    assert "others cannot load what it saved" in answer.root.cause


def test_norms_in_float32(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.norms_in_float32), probes=("image",))
    assert (answer.exit_code, len(answer.roots)) == (1, 1)
    assert (answer.root.code, answer.root.actual) == ("parameters.dtype", "float32")
    assert answer.passed("modules", "buffers", "config")


def test_a_quantised_tower(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.tower_through_int8), probes=("text", "image"))
    assert (answer.exit_code, len(answer.roots)) == (1, 1)
    assert answer.root.code == "parameters.digest"
    assert answer.root.location.startswith("model.vision_tower.")
    assert not [f for f in answer.findings if "equal up to here" in str(f.cause)]
    assert answer.passed("probe.text")


@pytest.mark.parametrize(
    ("loader", "kind"), [(loaders.wrapped, "DataParallel"), (loaders.holder, "Holder"), (loaders.returns_pair, "tuple")]
)
def test_a_wrapper_is_taken_off_and_said(tiny: SyntheticCheckpoint, loader: object, kind: str) -> None:
    answer = ask(tiny.gemma, named(loader))
    assert (answer.exit_code, answer.roots, answer.failed) == (1, ["modules.extra@(wrapper)"], {"modules"})
    assert answer.root.message == f"(wrapper) is only in the candidate: {kind}"
    assert answer.passed("parameters", "buffers", "probe.text", "round_trip")


def test_a_generation_config_that_cannot_be_saved(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(loaders.unsavable))
    assert (answer.exit_code, answer.roots) == (1, ["config.value@generation_config.do_sample"])
    assert answer.failed == {"config", "round_trip"}
    assert answer.passed("parameters", "probe.text")


def test_a_loader_that_takes_too_little_is_one_line(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", "--model", tiny.gemma, "--candidate", named(loaders.path_only))
    assert_input_error(result, "path_only", "dtype=...")
