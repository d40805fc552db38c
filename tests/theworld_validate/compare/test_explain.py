"""From findings to roots: one root for each independent cause, and everything else follows from one of them."""

from dataclasses import replace

import pytest

from tests.theworld_validate.compare.small_model import (
    EMBED,
    HEAD,
    ROTARY,
    changed,
    differ_from,
    explain_between,
    findings_between,
    roots_of,
    small_model,
)
from theworld_validate.compare.advice import ADVICE, EQUAL_UP_TO_HERE, INPUTS_DIFFER
from theworld_validate.compare.causes import Cause, WeightEvidence, classify
from theworld_validate.compare.contradictions import contradictions
from theworld_validate.compare.explain import Evidence, explain, rank_roots
from theworld_validate.documents.observations import STATE_SECTIONS
from theworld_validate.results import Finding, Scalar

Q_PROJ = "model.language_model.layers.1.q_proj"
NORM = "model.language_model.layers.0.norm"
TOWER = "model.vision_tower.layers.0.q_proj"
MASK = "model.language_model.layers.0.self_attn(attention_mask)"
WHOLE_STATE = frozenset(STATE_SECTIONS)


def test_every_kind_of_cause_has_its_words() -> None:
    assert set(ADVICE) == set(Cause)
    assert all(why and remedy for why, remedy in ADVICE.values())


def test_equal_models_have_no_finding() -> None:
    assert explain_between(small_model()) == ()


def test_a_weight_explains_all_that_it_changes() -> None:
    candidate = changed(parameters={f"{Q_PROJ}.weight": {"digest": "other"}})
    differ_from(candidate, Q_PROJ)
    explained = explain_between(candidate)
    assert roots_of(explained) == [f"parameters.digest@{Q_PROJ}.weight"]
    assert len(explained) > 10
    root = explained[0]
    assert classify(root) is Cause.WEIGHT_BITS
    assert root.remedy
    assert all(f.cause is None and f.remedy is None for f in explained if f.explained_by is not None)


def test_the_tower_explains_the_image_and_not_the_text() -> None:
    candidate = changed(parameters={f"{TOWER}.weight": {"digest": "other"}})
    differ_from(candidate, TOWER, probes=("image",))
    differ_from(candidate, NORM, probes=("text",))
    assert roots_of(explain_between(candidate)) == [f"parameters.digest@{TOWER}.weight", f"trace.digest@text/{NORM}"]


def test_a_pass_that_raises_explains_the_gradients_that_are_gone_and_no_bits() -> None:
    raised = a_finding("gradients", "raised", "gradients", "mine.py:48")
    gone = a_finding("gradients", "missing", "(inputs_embeds)", None)
    other = a_finding("gradients", "digest", f"{Q_PROJ}.weight", "f" * 32)
    explained = explain([raised, gone, other], Evidence())
    assert [finding.explained_by for finding in explained] == [None, raised.key, None]


def test_two_faults_give_two_roots() -> None:
    candidate = changed(
        parameters={f"{TOWER}.weight": {"digest": "other"}}, buffers={f"{ROTARY}.inv_freq": {"digest": "other"}}
    )
    differ_from(candidate, f"{ROTARY}(full_attention)[0]", probes=("text",))
    differ_from(candidate, TOWER, probes=("image",))
    explained = explain_between(candidate)
    assert roots_of(explained) == [f"parameters.digest@{TOWER}.weight", f"buffers.digest@{ROTARY}.inv_freq"]
    by_probe = {f.location.split("/")[0]: f.explained_by for f in explained if f.section == "trace"}
    assert by_probe == {
        "text": f"buffers.digest@{ROTARY}.inv_freq",
        "image": f"parameters.digest@{TOWER}.weight",
    }


def test_weights_do_not_explain_a_mask() -> None:
    candidate = changed(parameters={f"{Q_PROJ}.weight": {"digest": "other"}})
    differ_from(candidate, MASK)
    explained = explain_between(candidate)
    assert [classify(f) for f in rank_roots(explained)] == [Cause.WEIGHT_BITS, Cause.MASK]


@pytest.mark.parametrize(
    ("first", "cause"),
    [(MASK, Cause.MASK), (f"{ROTARY}(full_attention)[0]", Cause.POSITIONS), (NORM, Cause.KERNEL_CHOICE)],
)
def test_a_trace_alone_is_named_by_its_first_place(first: str, cause: Cause) -> None:
    candidate = small_model()
    differ_from(candidate, first)
    explained = explain_between(candidate)
    assert roots_of(explained) == [f"trace.digest@text/{first}"]
    assert classify(explained[0]) is cause


def test_a_rotary_buffer_that_differs_is_not_called_positions() -> None:
    candidate = changed(buffers={f"{ROTARY}.inv_freq": {"dtype": "bfloat16", "digest": "other"}})
    differ_from(candidate, f"{ROTARY}(full_attention)[0]")
    explained = explain_between(candidate)
    assert roots_of(explained) == [f"buffers.dtype@{ROTARY}.inv_freq"]
    assert "position ids" not in str(explained)


@pytest.mark.parametrize(
    ("answer", "section", "cause"),
    [
        ("loss_by_count", "outputs", Cause.LOSS_COUNT),
        ("cache[0].keys", "outputs", Cause.CACHE),
        ("embeds/logits", "outputs", Cause.EMBEDDED_INPUTS),
        ("arguments/hidden_states[0]", "outputs", Cause.FORWARD_ARGUMENTS),
        ("untraced/logits", "outputs", Cause.UNTRACED),
        ("logits", "outputs", Cause.KERNEL_CHOICE),
        ("beams", "generation", Cause.BEAMS),
        ("static_logits[0]", "generation", Cause.STATIC_CACHE),
        ("greedy", "generation", Cause.GENERATION),
        ("rng_state_cpu", "generation", Cause.RNG_USE),
    ],
)
def test_one_answer_alone_names_its_cause(answer: str, section: str, cause: Cause) -> None:
    explained = explain_between(changed(**{section: {f"{p}/{answer}": {"digest": "other"} for p in ("text", "image")}}))
    assert roots_of(explained) == [f"{section}.digest@text/{answer}"]  # the image's follows from the text's
    assert classify(explained[0]) is cause


@pytest.mark.parametrize(("answer", "section"), [("loss_by_count", "outputs"), ("static", "generation")])
def test_an_answer_that_no_module_explains_is_a_second_root(answer: str, section: str) -> None:
    candidate = changed(
        parameters={f"{TOWER}.weight": {"digest": "other"}}, **{section: {f"text/{answer}": {"digest": "other"}}}
    )
    differ_from(candidate, TOWER, probes=("image",))
    assert roots_of(explain_between(candidate)) == [
        f"parameters.digest@{TOWER}.weight",
        f"{section}.digest@text/{answer}",
    ]


def test_beams_follow_from_greedy_decoding() -> None:
    others = {f"text/{name}": {"digest": "other"} for name in ("greedy", "beams", "static", "sampled")}
    assert roots_of(explain_between(changed(generation=others))) == ["generation.digest@text/greedy"]


def test_config_decides_attributes_and_buffers() -> None:
    candidate = changed(
        config={"config.text_config.sliding_window": {"value": 2}, "config.text_config.rope_theta": {"value": 2}},
        buffers={f"{ROTARY}.inv_freq": {"digest": "other"}},
    )
    for model, window in ((candidate, 2),):
        model["modules"][NORM]["attribute.sliding_window"] = window
    differ_from(candidate, f"{ROTARY}(full_attention)[0]")
    assert roots_of(explain_between(candidate)) == ["config.value@config.text_config.sliding_window"]


def test_config_does_not_decide_an_attribute_of_another_name() -> None:
    candidate = changed(config={"config.text_config.sliding_window": {"value": 2}})
    candidate["modules"][NORM]["attribute.eps"] = 1
    roots = roots_of(explain_between(candidate))
    assert roots == ["config.value@config.text_config.sliding_window", f"modules.attribute.eps@{NORM}"]


def test_generation_settings_explain_generation_alone() -> None:
    candidate = changed(
        config={"generation_config.top_k": {"value": 2}},
        generation={"text/sampled": {"digest": "other"}},
        gradients={f"{NORM}.weight": {"digest": "other"}},
    )
    assert roots_of(explain_between(candidate)) == [
        "config.value@generation_config.top_k",
        f"gradients.digest@{NORM}.weight",
    ]


def test_the_whole_models_mode_explains_that_of_its_parts() -> None:
    candidate = changed(modules={name: {"training": True} for name in small_model()["modules"]})
    explained = explain_between(candidate)
    assert roots_of(explained) == ["modules.training@(model)"]
    assert len(explained) > 1


def test_the_configs_dtype_follows_from_the_weights() -> None:
    every = {name: {"dtype": "float16", "digest": "x"} for name in small_model()["parameters"] if HEAD not in name}
    candidate = changed(parameters=every, config={"config.dtype": {"value": "float16"}})
    differ_from(candidate, EMBED)
    first = next(iter(every))
    assert roots_of(explain_between(candidate)) == [f"parameters.dtype@{first}"]


def test_a_cast_is_told_by_the_buffer_that_must_keep_its_dtype() -> None:
    every = {name: {"dtype": "float16", "digest": "x"} for name in small_model()["parameters"] if HEAD not in name}
    candidate = changed(
        parameters=every,
        buffers={f"{ROTARY}.inv_freq": {"dtype": "float16"}, f"{EMBED}.embed_scale": {"dtype": "float16"}},
    )
    assert roots_of(explain_between(candidate)) == [f"buffers.dtype@{ROTARY}.inv_freq"]


def test_freezing_explains_gradients_of_the_same_part_and_no_results() -> None:
    candidate = changed(parameters={f"{TOWER}.weight": {"requires_grad": False}})
    candidate["gradients"][f"{TOWER}.weight"] = {"gradient": "none"}
    differ_from(candidate, NORM, probes=("text",))
    explained = explain_between(candidate)
    assert roots_of(explained) == [f"parameters.requires_grad@{TOWER}.weight", f"trace.digest@text/{NORM}"]


def test_a_buffer_that_became_a_parameter_is_one_cause() -> None:
    candidate = small_model()
    candidate["parameters"][f"{EMBED}.embed_scale"] = candidate["buffers"].pop(f"{EMBED}.embed_scale")
    candidate["written"][f"{EMBED}.embed_scale"] = {"dtype": "bfloat16", "shape": "[]"}
    explained = explain_between(candidate)
    assert roots_of(explained) == [f"buffers.missing@{EMBED}.embed_scale"]
    assert classify(explained[-1]) is not Cause.UNKNOWN


@pytest.mark.parametrize(
    ("std", "share", "cause"),
    [
        (0.0, 1.0, Cause.REINITIALISED),
        (0.021, 1.0, Cause.REINITIALISED),
        (0.5, 1.0, Cause.WEIGHT_BITS),
        (0.02, 0.1, Cause.WEIGHT_BITS),
        (float("nan"), 0.1, Cause.NON_FINITE_WEIGHT),
        (None, 1.0, Cause.NON_FINITE_WEIGHT),
    ],
)
def test_a_second_look_tells_what_became_of_a_weight(std: float | None, share: float, cause: Cause) -> None:
    weights = {
        f"{Q_PROJ}.weight": WeightEvidence(differing_share=share, candidate_std=std, initializer_range=0.02),
    }
    candidate = changed(parameters={f"{Q_PROJ}.weight": {"digest": "other"}}, globals={"rng_state_cpu": {"value": "2"}})
    explained = explain_between(candidate, Evidence(weights=weights))
    assert classify(explained[0]) is cause
    follows = cause is Cause.REINITIALISED  # an initialisation draws random numbers
    assert roots_of(explained) == [explained[0].key, *([] if follows else ["globals.value@rng_state_cpu"])]


def test_a_lost_key_explains_the_weight_of_that_name_and_the_draw() -> None:
    lost = Finding(code="files.missing", location=f"{Q_PROJ}.weight", message="", section="files", field="missing")
    candidate = changed(parameters={f"{Q_PROJ}.weight": {"digest": "other"}}, globals={"rng_state_cpu": {"value": "2"}})
    differ_from(candidate, Q_PROJ)
    assert roots_of(explain_between(candidate, more=[lost])) == [lost.key]


def test_many_lost_keys_are_one_root() -> None:
    lost = [
        Finding(code="files.missing", location=f"{name}.weight", message="", section="files", field="missing")
        for name in ("a.b.c", "d.e.f", "g.h.i")
    ]
    assert roots_of(explain(lost, Evidence())) == [lost[0].key]


def test_equal_up_to_here_needs_equal_inputs_and_the_whole_state() -> None:
    candidate = small_model()
    differ_from(candidate, NORM)
    place = f"text/{NORM}"

    def why(evidence: Evidence, model: dict = candidate) -> str:  # type: ignore[type-arg]
        return next(f.cause or "" for f in explain_between(model, evidence) if f.section == "trace")

    assert EQUAL_UP_TO_HERE in why(Evidence(compared=WHOLE_STATE, inputs_equal={place: True}))
    assert EQUAL_UP_TO_HERE not in why(Evidence(compared=WHOLE_STATE - {"buffers"}, inputs_equal={place: True}))
    assert EQUAL_UP_TO_HERE not in why(Evidence(compared=WHOLE_STATE))
    assert INPUTS_DIFFER in why(Evidence(compared=WHOLE_STATE, inputs_equal={place: False}))
    frozen = changed(parameters={f"{TOWER}.weight": {"requires_grad": False}})
    differ_from(frozen, NORM)
    assert EQUAL_UP_TO_HERE not in why(Evidence(compared=WHOLE_STATE, inputs_equal={place: True}), frozen)


def test_a_candidate_that_does_not_repeat_itself() -> None:
    candidate = small_model()
    differ_from(candidate, NORM)
    explained = explain_between(candidate, Evidence(compared=WHOLE_STATE, candidate_repeats=False))
    (root,) = rank_roots(explained)
    assert classify(root) is Cause.NON_DETERMINISM


def test_the_same_error_in_several_sections_is_one_root() -> None:
    raised = [
        Finding(
            code=f"{section}.raised",
            location="text",
            message="",
            actual=place,
            cause="its own code fails at a.py:3: x[1]",
            section=section,
            field="raised",
        )
        for section, place in (
            ("trace", "a.py:3"),
            ("outputs", "a.py:3"),
            ("generation", "a.py:3"),
            ("gradients", "b.py:1"),
        )
    ]
    explained = explain(raised, Evidence())
    assert roots_of(explained) == ["trace.raised@text", "gradients.raised@text"]
    assert explained[0].cause == "raised: its own code fails at a.py:3: x[1]"


def test_the_reference_and_the_candidate_may_fail_at_one_place() -> None:
    raised = [
        Finding(code="trace.raised", location="text", message=who, actual="a.py:3", section="trace", field="raised")
        for who in ("the reference raises", "the candidate raises")
    ]
    assert roots_of(explain(raised, Evidence())) == ["trace.raised@text"] * 2


def test_outputs_that_are_not_finite() -> None:
    seen = {"code": "outputs.non_finite", "message": "", "section": "outputs", "field": "non_finite"}
    numbers = [Finding(location=f"{probe}/{NORM}", **seen) for probe in ("text", "image")]
    candidate = small_model()
    differ_from(candidate, NORM)
    assert roots_of(explain_between(candidate, more=numbers)) == [numbers[0].key]
    candidate["parameters"][f"{NORM}.weight"]["digest"] = "nan"
    assert roots_of(explain_between(candidate, more=numbers)) == [f"parameters.digest@{NORM}.weight"]


def test_explanations_name_roots_only() -> None:
    findings = explain_between(changed(parameters={f"{Q_PROJ}.weight": {"digest": "other"}}))
    keys = set(roots_of(findings))
    assert all(f.explained_by in keys for f in findings if f.explained_by is not None)


def test_explaining_twice_changes_nothing() -> None:
    candidate = changed(parameters={f"{Q_PROJ}.weight": {"digest": "other"}})
    differ_from(candidate, Q_PROJ)
    once = explain_between(candidate)
    assert explain(once, Evidence(places={})) == explain(findings_between(small_model(), candidate), Evidence())


def test_contradictions_are_found() -> None:
    state = Finding(
        code="parameters.digest", location=f"{NORM}.weight", message="it differs", section="parameters", field="digest"
    )
    trace = Finding(
        code="trace.digest",
        location=f"text/{NORM}",
        message="m",
        section="trace",
        field="digest",
        cause=EQUAL_UP_TO_HERE,
    )
    named = replace(trace, cause=f"{Cause.KERNEL_CHOICE}: {EQUAL_UP_TO_HERE}")
    assert len(contradictions([state, named])) == 1
    assert contradictions([named]) == ()
    rotary = replace(state, code="buffers.digest", location=f"{ROTARY}.inv_freq", section="buffers")
    positions = replace(trace, location=f"text/{ROTARY}(x)[0]", cause=f"{Cause.POSITIONS}: position ids differ")
    assert len(contradictions([rotary, positions])) == 1
    orphan = replace(trace, cause=None, explained_by="parameters.digest@nowhere")
    assert "no root" in contradictions([orphan])[0]
    both = replace(trace, cause="x", explained_by=state.key)
    assert "a cause of its own" in contradictions([state, both])[0]


def a_finding(section: str, field: str, location: str, actual: Scalar = None, *, expected: Scalar = None) -> Finding:
    return Finding(
        code=f"{section}.{field}",
        section=section,
        field=field,
        location=location,
        message=f"{location} differs",
        expected=expected,
        actual=actual,
    )


@pytest.mark.parametrize(
    ("root", "follows"),
    [
        (
            a_finding("globals", "value", "global_backward_hooks", 1, expected=0),
            a_finding("gradients", "digest", f"{Q_PROJ}.weight"),
        ),
        (
            a_finding("globals", "value", "default_device", "meta", expected="cpu"),
            a_finding("trace", "raised", "text", "torch/utils/_device.py:122"),
        ),
        (
            a_finding("globals", "value", "default_device", "meta", expected="cpu"),
            a_finding("globals", "value", "function_modes", "DeviceContext"),
        ),
        (
            a_finding("config", "raised", "config", "mine.py:48"),
            a_finding("round_trip", "written_missing", "written/language_model.model.embed_tokens.weight"),
        ),
        (
            a_finding("modules", "cycle", "model", "again is (model), which holds it"),
            a_finding("gradients", "raised", "gradients", "torch/nn/modules/module.py:2900"),
        ),
        (
            a_finding("modules", "extra", "(code) transformers.models.gemma3.modeling_gemma3.Norm", "mine.Norm"),
            a_finding("modules", "class", NORM, "mine.Norm", expected="transformers.Norm"),
        ),
        (
            a_finding("globals", "extra", "anomaly_mode", actual=False),
            a_finding("globals", "extra", "flash_sdp", actual=True),
        ),
    ],
)
def test_what_follows_from_the_state_of_the_process_or_of_the_modules(root: Finding, follows: Finding) -> None:
    explained = explain([root, follows], Evidence())
    assert [finding.explained_by for finding in explained] == [None, root.key]


def test_a_flag_of_the_kernels_alone_explains_no_error() -> None:
    flag = a_finding("globals", "value", "cudnn_benchmark", actual=True, expected=False)
    raised = a_finding("trace", "raised", "text", "mine.py:5")
    assert [finding.explained_by for finding in explain([flag, raised], Evidence())] == [None, None]


def test_what_an_earlier_harness_did_not_observe_is_told_as_that() -> None:
    (extra,) = explain([a_finding("globals", "extra", "anomaly_mode", actual=False)], Evidence())
    assert "a version of the harness that does not observe this" in str(extra.cause)
    assert extra.remedy == "make that fingerprint again with theworld-validate fingerprint"
