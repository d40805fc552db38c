"""What cannot be used: one line that names it and the fix, exit code 2, and nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_clip
from tests.theworld.checkpoints.test_checkpoint_files import DAMAGES
from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.memory.adapter_config import read_adapter
from theworld_validate.results import InputError


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_line(gemma_copy: Path, damage: str, tmp_path: Path) -> None:
    inflict, message = DAMAGES[damage]
    inflict(gemma_copy)
    output = tmp_path / "report"
    assert_input_error(invoke("parity", "--model", gemma_copy, "--output", output), message)
    assert not output.exists()


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("command", [("parity",), ("buffers",), ("gradients",), ("params",), ("globals",), ("claims",)])
def test_another_architecture_is_one_line(tiny: SyntheticCheckpoint, gemma_copy: Path, command: tuple[str]) -> None:
    change_config(gemma_copy, model_type="llama")
    cosmos = () if command == ("parity",) else ("--cosmos", tiny.cosmos)
    result = invoke(*command, "--model", gemma_copy, *cosmos)
    assert_input_error(result, "config.json: model_type is 'llama'", "Gemma3ForConditionalGeneration")


def test_a_wrong_config_field_is_one_line(gemma_copy: Path) -> None:
    change_config(gemma_copy, mm_tokens_per_image="many")
    assert_input_error(invoke("parity", "--model", gemma_copy), "config.json", "mm_tokens_per_image")


def test_statistics_of_another_vae_are_one_line(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    cosmos = Path(shutil.copytree(tiny.cosmos, tmp_path / "cosmos"))
    change_config(cosmos / "vae", z_dim=48)
    assert_input_error(invoke("world", "--cosmos", cosmos), "cosmos", "latents_mean is", "z_dim (48) numbers")


def test_frames_out_of_range_are_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", make_clip(5).numpy() * 127.5 + 127.5)
    result = invoke("world", "--frames", tmp_path / "clip.npy")
    assert_input_error(result, "clip.npy", "must be in [-1, 1], got [0.", "divide by 127.5 and subtract 1")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["parity", "--model", "no/such/folder/here"], ["no such folder, nor a hub id"]),
        (["parity", "--candidate", "theworld"], ["not of the form module:Class"]),
        (["parity", "--candidate", "nowhere.to_be:Found"], ["no module 'nowhere.to_be'"]),
        (["parity", "--candidate", "theworld:Nothing"], ["module 'theworld' has no 'Nothing'"]),
        (["parity", "--device", "cuda:99"], ["--device cuda:99: this machine has", "CUDA devices; use --device cpu"]),
        (["parity", "--device", "tpu"], ["--device tpu: no such device; give cpu, auto, cuda or cuda:N"]),
        (["world", "--device", "meta"], ["--device meta: no such device; give cpu, auto, cuda or cuda:N"]),
        (["memory", "measure", "--device", "cpu"], ["--device cpu: memory is measured on cuda or cuda:N"]),
        (["synth", "NEW", "--device", "tpu"], ["--device tpu: no such device; give cpu, auto, cuda or cuda:N"]),
        (["files", "no/such/folder"], ["no such folder, nor a hub id"]),
        (["parity", "--probe", "txt"], ["--probe txt: no such probe; there are text, image", "did you mean text?"]),
        (["parity", "--attn", "magic"], ["--attn magic: no such attention; there are sdpa, eager"]),
        (["world", "--model", "TINY"], ["--model was given without --cosmos"]),
        (["gradients", "--model", "TINY"], ["--model was given without --cosmos"]),
        (["gradients", "--preset", "half"], ["--preset half: no such freeze preset; there are projection"]),
        (["params", "--preset", "half"], ["--preset half: no such freeze preset; there are projection"]),
        (["params", "--model", "TINY"], ["a model without a VAE; name a Cosmos repository or VAE folder"]),
        (["params", "--model", "TINY", "--config", "4b"], ["--model and --config both name a model"]),
        (["params", "--config", "27b"], ["--config 27b: no such size or file; give tiny, 4b"]),
        (["params", "--config", "no/such.json"], ["--config no/such.json: ", "such"]),
        (["--suite", "gpuu"], ["--suite gpuu: there is no such name", "did you mean gpu?"]),
        (["--only", "gradient"], ["--only gradient: there is no such name", "did you mean gradients?"]),
        (["parity", "--output", "/dev/null/x"], ["--output /dev/null/x: cannot write there"]),
    ],
)
def test_wrong_arguments_are_one_line(
    tiny: SyntheticCheckpoint, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    places = {"TINY": str(tiny.gemma), "NEW": str(tmp_path / "new")}
    assert_input_error(invoke(*(places.get(argument, argument) for argument in arguments)), *parts)
    assert list(tmp_path.iterdir()) == []


def test_what_was_found_before_the_wrong_input_is_kept(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    """A module to import is only seen to be wrong when it is imported, after other checks."""
    arguments = ("--model", tiny.gemma, "--import", "nowhere.to_be", "--output", tmp_path)
    result = invoke("globals", *arguments)
    assert result.exit_code == 2
    place, error = result.stderr.splitlines()
    assert error == "error: --import nowhere.to_be: ModuleNotFoundError: No module named 'nowhere'"
    assert place == f"report: {tmp_path}/report.html"
    report = json.loads((tmp_path / "report.json").read_text())
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert statuses == {"globals.theworld": "passed", "input": "error"}
    assert report["verdict"] == "error"


def test_an_input_error_is_json_too(tmp_path: Path) -> None:
    result = invoke("parity", "--json", "--model", tmp_path)
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert report["verdict"] == "error"
    assert "empty one" in report["checks"][0]["reason"]


def test_a_wrong_option_is_usage() -> None:
    assert invoke("--nope").exit_code == 2
    assert invoke("parity", "--dtype", "float8").exit_code == 2
    result = invoke("pairty")
    assert result.exit_code == 2
    assert "Did you mean 'parity'?" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; check the path"),
        ("{", "not valid JSON"),
        ("[]", "holds a list, expected a JSON object"),
        ('{"schema": "theworld-fingerprint/1"}', "field schema is 'theworld-fingerprint/1', expected"),
        ('{"schema": "theworld-fingerprint/2", "digest": "md5"}', "field digest is 'md5'"),
        ('{"schema": "theworld-fingerprint/2", "digest": "xxh3-128/16384"}', "field subject: field required"),
    ],
)
def test_a_wrong_fingerprint_file_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    assert_input_error(invoke("diff", path, path), str(path), message)


def test_isolated_input_errors_come_through(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", "--isolate", "--model", tiny.gemma, "--candidate", "theworld:Nothing")
    assert_input_error(result, "module 'theworld' has no 'Nothing'")


def test_a_hub_id_that_cannot_be_had_is_one_line() -> None:
    """In a process of its own: huggingface_hub decides whether it is offline where it is imported."""
    code = (
        "from tests.theworld_validate.command_line import assert_input_error, invoke\n"
        "error = 'nobody/nothing: not on this machine, and the hub did not give it'\n"
        "assert_input_error(invoke('parity', '--model', 'nobody/nothing'), error)\n"
        "error = 'nobody/nothing: no such folder, and not to be had from the hub'\n"
        "assert_input_error(invoke('world', '--cosmos', 'nobody/nothing'), error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("--config", ""), "--config"),
        (("parity", "--model", "", "--quiet"), "--model"),
        (("files", "--output="), "--output"),
        (("memory", "predict", "--lengths", ""), "--lengths"),
        (("diff", "", ""), "an argument"),
    ],
)
def test_an_empty_value_is_named(arguments: tuple[str, ...], name: str) -> None:
    assert_input_error(invoke(*arguments), f"error: {name} is empty; give a value, or leave it out")


@pytest.mark.parametrize("rank", ["-1", "0", "65537", "", "8.0", "\n8", "9" * 5000])
def test_a_rank_that_is_none_is_told_what_one_is(rank: str) -> None:
    with pytest.raises(InputError, match="of lora:RANK, a rank is a number from 1 to 65,536"):
        read_adapter(f"lora:{rank}", is_the_worlds=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("diff", "a.json", "b.json", "--output", "PLACE"),
        ("--suite", "x", "--output", "PLACE"),
        ("regress", "a", "b", "--output", "PLACE"),
        ("fingerprint", "--model", "/nowhere", "--output", "PLACE/a.json"),
    ],
)
def test_refused_input_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = str(tmp_path / "new" / "report")
    assert_input_error(invoke(*(part.replace("PLACE", place) for part in arguments)))
    assert list(tmp_path.iterdir()) == []
