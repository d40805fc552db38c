"""Nothing that was not proved ends in exit code 0: models that answer alike and are not alike."""

import json
import shutil
from pathlib import Path

import pytest
from torch import nn

from tests.theworld_validate.command_line import invoke
from tests.theworld_validate.loaders import unproved
from tests.theworld_validate.loaders.asking import ask
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.fingerprint.state import observe_parameters
from theworld_validate.results import Status
from theworld_validate.subjects.wrappers import unwrap

_GEMMA = "transformers.models.gemma3.modeling_gemma3"


def named(loader: object) -> str:
    return f"{loader.__module__}:{loader.__name__}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        (unproved.norm_patched, f"{_GEMMA}.Gemma3RMSNorm.forward"),
        (unproved.rotary_patched, f"{_GEMMA}.apply_rotary_pos_emb"),
        (unproved.attention_patched, "torch.nn.functional.scaled_dot_product_attention"),
        (unproved.registry_patched, "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS[sdpa]"),
        (unproved.generate_patched, f"{_GEMMA}.Gemma3ForConditionalGeneration.generate"),
    ],
)
def test_patched_code_is_the_one_root(tiny: SyntheticCheckpoint, loader: object, name: str) -> None:
    answer = ask(tiny.gemma, named(loader))
    assert (answer.exit_code, answer.roots) == (1, [f"modules.extra@(code) {name}"])
    assert answer.root.cause is not None
    assert answer.root.cause.startswith("patched code: ")
    assert "tests.theworld_validate.loaders.unproved." in answer.root.message


def test_patched_code_that_answers_otherwise_is_a_root_beside_what_differs(tiny: SyntheticCheckpoint) -> None:
    answer = ask(tiny.gemma, named(unproved.static_cache_patched))
    patched = "modules.extra@(code) transformers.cache_utils.StaticCache.update"
    assert (answer.exit_code, answer.roots) == (1, ["generation.digest@text/static_logits[0]", patched])


def test_what_is_put_back_is_no_patch(tiny: SyntheticCheckpoint) -> None:
    assert ask(tiny.gemma, named(unproved.patched_and_restored)).exit_code == 0


@pytest.mark.parametrize(
    ("loader", "failed"),
    [
        (unproved.WhileTraining, {"gradients"}),
        (unproved.WithGradients, {"gradients"}),
        (unproved.Unhooked, {"probe.image", "gradients"}),
        (unproved.WithoutLabels, {"probe.image"}),
        (unproved.InABatch, {"probe.image"}),
        (unproved.AfterCalls, {"modules", "probe.image", "gradients"}),
    ],
)
def test_a_forward_that_looks_at_how_it_is_asked(tiny: SyntheticCheckpoint, loader: object, failed: set[str]) -> None:
    answer = ask(tiny.gemma, named(loader), probes=("image",))
    assert (answer.exit_code, answer.failed) == (1, failed)


@pytest.mark.parametrize(
    ("loader", "root"),
    [
        (unproved.WritesWhileTraining, "parameters.after_run@model.language_model.norm.weight"),
        (
            unproved.writes_to_a_buffer_at_the_end,
            "buffers.after_run@model.language_model.rotary_emb.full_attention_inv_freq",
        ),
        (unproved.module_in_a_list, "modules.unregistered@(model)"),
        (unproved.tensor_in_an_attribute, "modules.unregistered@model"),
        (unproved.dead_branch, "modules.extra@model.branch"),
        (unproved.hidden_branch, "modules.extra@model.branch"),
        (unproved.subclass_of_parameter, "parameters.subclass@model.language_model.norm.weight"),
        (unproved.parametrized, "modules.class@model.language_model.norm"),
        (unproved.strided, "parameters.stride@model.language_model.layers.0.mlp.up_proj.weight"),
        (unproved.nan_in_an_unread_row, "parameters.digest@model.language_model.embed_tokens.weight"),
    ],
)
def test_state_is_found_wherever_it_is_held(tiny: SyntheticCheckpoint, loader: object, root: str) -> None:
    probes = ("image",) if loader is unproved.WritesWhileTraining else ("text",)
    answer = ask(tiny.gemma, named(loader), probes=probes)
    assert (answer.exit_code, answer.roots) == (1, [root])


@pytest.mark.parametrize(
    ("loader", "root"),
    [
        (unproved.lazy_branch, "modules.extra@model.branch"),
        (unproved.float8, "parameters.dtype@model.language_model.layers.0.mlp.up_proj.weight"),
        (unproved.complex_weight, "parameters.dtype@model.vision_tower.post_layernorm.weight"),
        (unproved.StateLost, "parameters.unreadable@model.language_model.layers.3.input_layernorm.weight"),
    ],
)
def test_what_cannot_run_costs_only_what_it_cannot(tiny: SyntheticCheckpoint, loader: object, root: str) -> None:
    answer = ask(tiny.gemma, named(loader), probes=("image",))
    assert answer.exit_code == 1
    assert answer.roots[0] == root
    assert answer.passed("config", "buffers", "globals")


def test_two_parameters_in_one_memory_are_seen() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    first, second = (module.weight for module in model if isinstance(module, nn.Linear))
    second.data = first.data
    seen = observe_parameters(unwrap(model))
    assert seen["1.weight"]["same_memory_as"] == "0.weight"
    second.data = first.data.clone()
    assert "same_memory_as" not in observe_parameters(unwrap(model))["1.weight"]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_checkpoint_that_changes_proves_nothing(
    tiny: SyntheticCheckpoint, tmp_path: Path, *, through_a_link: bool
) -> None:
    copy = Path(shutil.copytree(tiny.gemma, tmp_path / "copy"))
    (tmp_path / "link").symlink_to(copy)
    answer = ask(tmp_path / "link" if through_a_link else copy, named(unproved.writes_to_the_checkpoint))
    check = answer.checks["checkpoint"]
    assert (answer.exit_code, check.status) == (3, Status.INCONCLUSIVE)
    assert [(finding.code, finding.location) for finding in check.findings] == [("files.written_to", "config.json")]


@pytest.fixture(scope="module")
def fingerprint(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fingerprint") / "one.json"
    assert invoke("fingerprint", "--model", tiny.gemma, "--output", file, "--quiet").exit_code == 0
    return file


def test_a_fingerprint_is_itself(fingerprint: Path) -> None:
    assert invoke("diff", fingerprint, fingerprint, "--quiet").exit_code == 0


@pytest.mark.parametrize("section", ["files", "config", "modules", "parameters", "trace", "gradients", "round_trip"])
def test_the_same_cut_in_both_files_proves_nothing(fingerprint: Path, tmp_path: Path, section: str) -> None:
    """A section taken out of both, out of their plans and out of their counts."""
    values = json.loads(fingerprint.read_text(encoding="utf-8"))
    del values["sections"][section], values["num_observations"][section]
    values["plan"]["sections"].remove(section)
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(values), encoding="utf-8")
    assert invoke("diff", cut, cut, "--quiet").exit_code == 3


def test_two_empty_sides_prove_nothing(fingerprint: Path, tmp_path: Path) -> None:
    values = json.loads(fingerprint.read_text(encoding="utf-8"))
    values["sections"] = {name: {} for name in values["sections"]}
    values["num_observations"] = dict.fromkeys(values["num_observations"], 0)
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(values), encoding="utf-8")
    assert invoke("diff", empty, empty, "--quiet").exit_code == 3


def test_a_probe_under_another_name_is_missing(fingerprint: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.json"
    text = fingerprint.read_text(encoding="utf-8")
    renamed.write_text(text.replace('"image/', '"picture/').replace('"image"', '"picture"'), encoding="utf-8")
    assert invoke("diff", renamed, renamed, "--quiet").exit_code == 3


@pytest.mark.parametrize("name", ["", "txt", "text/", "TEXT", "*"])
def test_no_probe_is_no_pass(tiny: SyntheticCheckpoint, name: str) -> None:
    assert invoke("parity", "--model", tiny.gemma, "--probe", name).exit_code == 2


def test_a_failed_report_against_itself_does_not_pass(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    output = tmp_path / "report"
    arguments = ("--model", tiny.gemma, "--probe", "text", "--candidate", named(unproved.dead_branch))
    assert invoke("parity", *arguments, "--output", output, "--quiet").exit_code == 1
    result = invoke("regress", output, output)
    assert result.exit_code == 1, result.output
