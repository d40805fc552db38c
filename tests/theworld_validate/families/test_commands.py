"""The other commands on checkpoints of other families; and what is TheWorld's own says so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld_validate.probes.probe import Probe

TinyOf = Callable[[str], Path]
NAME = "LlamaForCausalLM"


def report_of(*arguments: object) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def measured(report: dict[str, Any], check_id: str) -> dict[str, Any]:
    return next(check["measurements"] for check in report["checks"] if check["id"] == check_id)


def own_probes(config: Any, *, seed: int) -> list[Probe]:
    ids = np.random.Generator(np.random.PCG64(seed)).integers(3, 200, (1, 7))
    return [Probe(name="mine", inputs={"input_ids": ids}, use_cache=None)]


def no_probes(config: Any, *, seed: int) -> list[Probe]:
    return []


def test_parameters_by_the_module_tree_and_by_a_users_list(tiny_of: TinyOf, tmp_path: Path) -> None:
    folder = tiny_of(NAME)
    counted = measured(report_of("params", "--model", folder), "params.components")
    by_name = {row["component"]: row["total"] for row in counted["components"] if row["tied_to"] is None}
    assert set(by_name) == {"model.embed_tokens", "model.layers", "model.norm", "lm_head"}
    assert sum(by_name.values()) == counted["parameters"] > 0
    chosen = tmp_path / "components.json"
    chosen.write_text(json.dumps({"head": ["lm_head.*"], "body": ["model.*"]}))
    own = measured(report_of("params", "--model", folder, "--components", chosen), "params.components")
    assert {row["component"]: row["total"] for row in own["components"]} == {
        "head": by_name["lm_head"],
        "body": counted["parameters"] - by_name["lm_head"],
    }
    chosen.write_text(json.dumps({"head": ["lm_head.*"]}))
    result = invoke("params", "--model", folder, "--components", chosen)
    assert_input_error(result, "parameter model.embed_tokens.weight is in none")


def test_gradients_files_and_buffers(tiny_of: TinyOf) -> None:
    folder = tiny_of(NAME)
    step = report_of("gradients", "--model", folder, "--dtype", "float32")
    assert measured(step, "gradients.step")["dead_parameters"] == 0
    assert measured(step, "gradients.step")["trainable_parameters"] > 0
    assert measured(report_of("files", folder), "files.keys")["parameters"] > 0
    buffers = report_of("buffers", "--model", folder, "--dtype", "float32")
    assert {check["status"] for check in buffers["checks"]} <= {"passed", "skipped"}


def test_a_fingerprint_is_equal_to_itself(tiny_of: TinyOf, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    options = ("--model", tiny_of("BertForMaskedLM"), "--dtype", "float32")
    assert invoke("fingerprint", *options, "--output", file).exit_code == 0
    same = report_of("diff", file, file)
    assert {check["status"] for check in same["checks"]} == {"passed"}
    assert same["plan"]["probes"] == ["text", "right_padded_batch"]


def test_a_users_own_probes_are_asked(tiny_of: TinyOf) -> None:
    options = ("--model", tiny_of(NAME), "--dtype", "float32", "--candidate", "transformers:LlamaForCausalLM")
    report = report_of("parity", *options, "--probes", f"{__name__}:own_probes")
    assert report["plan"]["probes"] == ["mine"]
    assert measured(report, "parity.probe.mine")["module_outputs_compared"] > 0
    result = invoke("parity", *options, "--probes", f"{__name__}:no_probes")
    assert_input_error(result, "gives no list of theworld_validate.Probe")


@pytest.mark.parametrize("command", ["claims", "globals", "world"])
def test_what_is_the_worlds_own_says_so(tiny_of: TinyOf, command: str) -> None:
    cosmos = ("--cosmos", tiny_of(NAME)) if command == "world" else ()
    assert_input_error(
        invoke(command, "--model", tiny_of(NAME), *cosmos), "is TheWorld's own", "transformers:LlamaForCausalLM"
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model_type": "not_yet"}, "model_type is 'not_yet', which transformers"),
        ({"architectures": ["NotYetForCausalLM"]}, "architectures names NotYetForCausalLM, which transformers"),
        ({"architectures": None}, "architectures is missing"),
        ({"architectures": ["BertForMaskedLM"]}, "is of model_type 'bert'"),
        ({"architectures": [NAME, "LlamaForSequenceClassification"]}, "architectures names 2 classes"),
        ({"architectures": ["LlamaPreTrainedModel"]}, "architectures names LlamaPreTrainedModel, which is no model"),
        ({"architectures": ["LlamaTokenizer"]}, "architectures names LlamaTokenizer, which is no model"),
    ],
)
def test_a_class_that_is_not_installed_is_one_line_and_nothing_is_run(
    tiny_of: TinyOf, tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    folder = Path(shutil.copytree(tiny_of(NAME), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    own_code = {"auto_map": {"AutoModelForCausalLM": "modeling_own.Model", "AutoConfig": "modeling_own.Config"}}
    (folder / "config.json").write_text(json.dumps({**config, **own_code, **fields}))
    (folder / "modeling_own.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    result = invoke("parity", "--model", folder, "--candidate", "transformers:LlamaForCausalLM")
    assert_input_error(result, "config.json", says)
    assert not (tmp_path / "was_run").exists()
