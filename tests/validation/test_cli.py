"""The command line: exit codes, JSON alone on stdout, one line for bad input, help without torch."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.conftest import make_clip
from tests.theworld.test_checkpoint_files import DAMAGES
from theworld.synthetic import SyntheticCheckpoint
from validation.cli import app

FAULTY = "tests.validation.faulty_candidates:"
CHECKS = ("parity", "fingerprint", "diff", "selftest", "world")
AUDITS = ("buffers", "params", "gradients", "globals", "claims")
COMMANDS = (*CHECKS, *AUDITS, "regress", "memory", "memory measure", "memory predict", "synth", "doctor")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_input_error(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert result.stdout == ""


def test_bare_command_passes_and_writes_a_report(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    result = invoke("--output", tmp_path / "report")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["schema"] == "theworld-validate/1"
    assert report["verdict"] == "passed"
    probes = [check for check in report["checks"] if check["id"].startswith("parity.probe.")]
    assert len(probes) == 6
    assert all(probe["measurements"]["tensors_compared"] > 0 for probe in probes)
    ids = {check["id"] for check in report["checks"]}
    assert ids >= {"world.tokens", "parity.buffers", "buffers.bfloat16", "gradients.full", "params.components"}
    assert ids >= {"globals.theworld", "globals.cosmos_pipeline", "claims.counts", "memory.predict"}
    skipped = {check["id"] for check in report["checks"] if check["status"] == "skipped"}
    assert skipped == {"claims.memory", "claims.speed"}
    assert f"PASSED: {len(ids) - 2} of {len(ids)} checks passed" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert (tmp_path / "report" / "report.md").read_text().startswith("# theworld-validate: passed")
    written = {path.name for path in (tmp_path / "report").iterdir()}
    figures = {"memory.predict.split.svg", "memory.predict.timeline.svg"}
    assert written == {"report.json", "report.md", "report.html", "junit.xml", *figures}
    # The same tree again: nothing regressed, and a check that is left out is one that vanished.
    result = invoke("regress", tmp_path / "report", tmp_path / "report")
    assert result.exit_code == 0, result.output
    chosen = invoke("--only", "params", "--only", "world", "--output", tmp_path / "some")
    assert chosen.exit_code == 0, chosen.output
    result = invoke("regress", tmp_path / "report", tmp_path / "some")
    assert result.exit_code == 1
    assert "the check was passed, is missing" in result.stdout


def test_json_is_alone_on_stdout(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", "--json", "--model", tiny.gemma, "--probe", "text")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["verdict"] == "passed"
    probes = [check["id"] for check in report["checks"] if check["id"].startswith("parity.probe.")]
    assert probes == ["parity.probe.text"]


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("inv_freq_in_bfloat16", "full_attention_inv_freq: dtype is bfloat16, expected float32"),
        ("last_bit_flipped", "layers.3.mlp.down_proj.weight differs in its bits"),
        ("train_mode", "training is True, expected False"),
    ],
)
def test_a_faulty_candidate_exits_1_and_is_named(tiny: SyntheticCheckpoint, fault: str, named: str) -> None:
    result = invoke("parity", "--model", tiny.gemma, "--candidate", FAULTY + fault)
    assert result.exit_code == 1
    assert named.replace(" ", "") in "".join(result.stdout.split())
    assert "FAILED" in result.stdout


def test_an_inconclusive_control_exits_3(tiny: SyntheticCheckpoint) -> None:
    unstable = FAULTY + "other_seed_for_each_call"
    sides = ("--reference", unstable, "--candidate", unstable)
    result = invoke("parity", "--quiet", "--model", tiny.gemma, *sides)
    assert result.exit_code == 3
    assert result.stdout == ""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_line(gemma_copy: Path, damage: str, tmp_path: Path) -> None:
    inflict, message = DAMAGES[damage]
    inflict(gemma_copy)
    output = tmp_path / "report"
    assert_input_error(invoke("parity", "--model", gemma_copy, "--output", output), message)
    assert list(output.iterdir()) == []


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("command", [("parity",), ("buffers",), ("gradients",), ("params",), ("globals",), ("claims",)])
def test_another_architecture_is_one_line(tiny: SyntheticCheckpoint, gemma_copy: Path, command: tuple[str]) -> None:
    change_config(gemma_copy, model_type="llama")
    cosmos = () if command == ("parity",) else ("--cosmos", tiny.cosmos)
    result = invoke(*command, "--model", gemma_copy, *cosmos)
    assert_input_error(result, "config.json: model_type is 'llama'", "give a Gemma 3")


def test_a_wrong_config_field_is_one_line(gemma_copy: Path) -> None:
    change_config(gemma_copy, mm_tokens_per_image="many")
    assert_input_error(invoke("parity", "--model", gemma_copy), "config.json", "mm_tokens_per_image")


def test_another_z_dim_is_one_line(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    cosmos = Path(shutil.copytree(tiny.cosmos, tmp_path / "cosmos"))
    change_config(cosmos / "vae", z_dim=48)
    assert_input_error(invoke("world", "--cosmos", cosmos), "cosmos", "z_dim is 48", "Cosmos-Predict2")


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
        (["parity", "--device", "cuda:99"], ["--device cuda:99: this machine has", "use --device cpu"]),
        (["parity", "--device", "tpu"], ["--device tpu: no"]),
        (["parity", "--probe", "txt"], ["--probe txt: no such probe; there are text, image", "did you mean text?"]),
        (["parity", "--isolate", "--probe", "text"], ["--isolate runs every probe; leave --probe out"]),
        (["parity", "--attn", "magic"], ["--attn magic: no such attention; there are sdpa, eager"]),
        (["world", "--model", "TINY"], ["--model was given without --cosmos"]),
        (["gradients", "--model", "TINY"], ["--model was given without --cosmos"]),
        (["gradients", "--preset", "half"], ["--preset half: no such freeze preset; there are projection"]),
        (["params", "--preset", "half"], ["--preset half: no such freeze preset; there are projection"]),
        (["params", "--model", "TINY"], ["a model without a VAE; name a Cosmos repository or VAE folder"]),
        (["params", "--model", "TINY", "--config", "4b"], ["--model and --config both name a model"]),
        (["params", "--config", "27b"], ["--config 27b: no such size or file; give tiny, 4b"]),
        (["params", "--config", "no/such.json"], ["--config no/such.json: ", "such"]),
        (["globals", "--import", "nowhere.to_be"], ["--import nowhere.to_be: ModuleNotFoundError"]),
        (["--suite", "gpuu"], ["--suite gpuu: there is no such name", "did you mean gpu?"]),
        (["--only", "gradient"], ["--only gradient: there is no such name", "did you mean gradients?"]),
        (["parity", "--output", "/dev/null/x"], ["--output /dev/null/x: cannot write there"]),
    ],
)
def test_wrong_arguments_are_one_line(tiny: SyntheticCheckpoint, arguments: list[str], parts: list[str]) -> None:
    arguments = [str(tiny.gemma) if argument == "TINY" else argument for argument in arguments]
    assert_input_error(invoke(*arguments), *parts)


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


def test_an_unexpected_error_says_how_to_report_it(tiny: SyntheticCheckpoint) -> None:
    arguments = ("parity", "--model", tiny.gemma, "--candidate", FAULTY + "not_a_model")
    result = invoke(*arguments)
    assert result.exit_code == 1
    first, second = result.stderr.strip().splitlines()
    assert first == "internal error: RuntimeError: kaboom second line"
    assert "--debug" in second
    assert "report it at" in second
    assert "Traceback" in invoke(*arguments, "--debug").stderr


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch, tiny: SyntheticCheckpoint) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("validation.suite.check_parity", interrupt)
    result = invoke("parity", "--model", tiny.gemma)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_an_interrupted_run_writes_what_it_finished(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    """A real Ctrl-C: the first group is whole, the process is gone soon, and no scratch file is left."""
    arguments = ["--only", "params", "--only", "claims", "--output", str(tmp_path)]
    code = (
        "import signal, sys, threading, os\nfrom validation import whole_suite\n"
        "original = whole_suite.check_claims_of\n"
        "def interrupted(*args, **kwargs):\n"
        "    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    return original(*args, **kwargs)\n"
        "whole_suite.check_claims_of = interrupted\n"
        "from validation.cli import main\nsys.argv[1:] = " + repr(arguments) + "\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.endswith("interrupted\n")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "error"
    assert [check["id"] for check in report["checks"]] == ["params.components", "params.presets", "interrupted"]
    assert not list(tmp_path.glob(".*"))


def test_fingerprints_of_two_processes_are_equal(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    """Each with a hash seed of its own: what is observed must not depend on it."""
    for name, target in (("a", "transformers:Gemma3ForConditionalGeneration"), ("b.json", "theworld:TheWorld")):
        command = [sys.executable, "-m", "validation", "fingerprint", "--model", str(tiny.gemma), "--target", target]
        subprocess.run([*command, "--output", str(tmp_path / name)], check=True, capture_output=True)
    result = invoke("diff", tmp_path / "a", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    assert "target is theworld:TheWorld" in result.stdout
    assert "PASSED" in result.stdout


def test_diff_says_what_surrounds_a_difference(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    for name, options in (("a.json", ()), ("b.json", ("--attn", "eager"))):
        written = invoke("fingerprint", "--model", tiny.gemma, "--output", tmp_path / name, *options)
        assert written.exit_code == 0, written.output
    result = invoke("diff", tmp_path / "a.json", tmp_path / "b.json", "--json")
    assert result.exit_code == 1
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert next(iter(checks)) == "diff.surroundings"
    assert checks["diff.surroundings"]["findings"][0]["message"] == "attn: attn is eager, expected None"
    assert checks["parity.modules"]["findings"][0]["code"] == "modules.attn_implementation"
    assert checks["parity.parameters"]["status"] == "passed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; make one with theworld-validate fingerprint"),
        ("{", "not readable as JSON"),
        ("[]", "field schema is None"),
        ('{"schema": "theworld-fingerprint/1", "digest": "md5"}', "field digest is 'md5'"),
        ('{"schema": "theworld-fingerprint/1", "digest": "xxh3-128/16384"}', "field layers is missing"),
    ],
)
def test_a_wrong_fingerprint_file_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    assert_input_error(invoke("diff", path, path), str(path), message)


def test_isolated_parity(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", "--isolate", "--model", tiny.gemma, "--candidate", FAULTY + "train_mode", "--json")
    assert result.exit_code == 1
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert [id_ for id_, check in checks.items() if check["status"] == "failed"] == ["parity.modules"]
    assert checks["parity.control"]["status"] == "passed"


def test_isolated_input_errors_come_through(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", "--isolate", "--model", tiny.gemma, "--candidate", "theworld:Nothing")
    assert_input_error(result, "module 'theworld' has no 'Nothing'")


def test_selftest_of_named_faults(tiny: SyntheticCheckpoint) -> None:
    result = invoke("selftest", "--model", tiny.gemma, "--fault", "one-ulp", "--fault", "train-mode")
    assert result.exit_code == 0, result.output
    assert "selftest.one-ulp" in result.stdout
    assert_input_error(invoke("selftest", "--fault", "one-upl"), "no such fault; did you mean one-ulp?")
    listed = invoke("selftest", "--list").stdout
    assert "rotary-in-bfloat16" in listed
    assert "transformers #25681" in listed


def test_an_audit_prints_its_table_in_80_columns(tiny: SyntheticCheckpoint) -> None:
    result = invoke("params", "--config", "4b")
    assert result.exit_code == 0, result.output
    assert "language_model        3,880,107,008" in result.stdout
    assert "is: multi_modal_projector + vae_quant_conv" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    report = json.loads(invoke("params", "--config", "4b", "--preset", "documented", "--json").stdout)
    (row,) = report["checks"][1]["measurements"]["presets"]
    assert row["trainable"] == 76_290_451


def test_the_documented_preset_fails_its_audit(tiny: SyntheticCheckpoint) -> None:
    result = invoke("gradients", "--preset", "documented")
    assert result.exit_code == 1
    assert "DistributedDataParallel would stop" in " ".join(result.stdout.split())


def test_synth_writes_what_parity_reads(tmp_path: Path) -> None:
    result = invoke("synth", tmp_path / "new")
    assert result.exit_code == 0
    assert result.stdout.strip() == f"theworld-validate --model {tmp_path}/new/gemma --cosmos {tmp_path}/new/cosmos"
    assert (tmp_path / "new" / "gemma" / "config.json").is_file()
    assert_input_error(invoke("synth", tmp_path / "new"), "already there and not an empty folder")


def test_doctor() -> None:
    assert "can run parity: yes" in invoke("doctor").stdout
    described = json.loads(invoke("doctor", "--json").stdout)
    assert described["can_run"]["parity"] is True
    assert described["environment"]["packages"]["torch"]


def test_version() -> None:
    from theworld import __version__

    assert invoke("--version").stdout.strip() == __version__


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom validation.cli import app\n"
        f"for command in ([], *(name.split() for name in {COMMANDS!r})):\n"
        "    result = CliRunner().invoke(app, [*command, '--help'])\n"
        "    assert result.exit_code == 0 and 'Usage' in result.output, result.output\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy', 'xxhash'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_answers_at_once() -> None:
    """The goal is half a second; torch alone would be ten times the terminal libraries."""

    def cpu_seconds(*arguments: str) -> float:
        times = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    libraries = cpu_seconds("-c", "import typer, typer.rich_utils, rich.console, rich.table, rich.panel")
    assert cpu_seconds("-m", "validation", "--help") < 3.5 * libraries


@pytest.mark.parametrize(
    "arguments", [["parity", "--model", "nobody/nothing"], ["world", "--cosmos", "nobody/nothing"]]
)
def test_a_hub_id_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_input_error(invoke(*arguments), "nobody/nothing: not on this machine, and the hub did not give it")
