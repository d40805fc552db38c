"""The command line: exit codes, JSON alone on stdout, one line for bad input, help without torch."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.results import CheckResult

FAULTY = "tests.theworld_validate.faulty_candidates:"
CHECKS = ("parity", "fingerprint", "diff", "selftest", "world")
AUDITS = ("buffers", "params", "gradients", "globals", "claims")
COMMANDS = (*CHECKS, *AUDITS, "regress", "memory", "memory measure", "memory predict", "synth", "doctor")


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
    result = invoke("parity", "--model", tiny.gemma, "--probe", "text", "--candidate", FAULTY + fault)
    assert result.exit_code == 1
    assert named.replace(" ", "") in "".join(result.stdout.split())
    assert "FAILED" in result.stdout


def test_an_inconclusive_control_exits_3(tiny: SyntheticCheckpoint) -> None:
    unstable = FAULTY + "other_seed_for_each_call"
    sides = ("--reference", unstable, "--candidate", unstable)
    result = invoke("parity", "--quiet", "--model", tiny.gemma, "--probe", "text", *sides)
    assert result.exit_code == 3
    assert result.stdout == ""


def test_an_unexpected_error_says_how_to_report_it(tiny: SyntheticCheckpoint) -> None:
    arguments = ("parity", "--model", tiny.gemma, "--probe", "text", "--candidate", FAULTY + "not_a_model")
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

    monkeypatch.setattr("theworld_validate.suite.check_parity", interrupt)
    result = invoke("parity", "--model", tiny.gemma)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_an_interrupted_run_writes_what_it_finished(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    """A real Ctrl-C: the first group is whole, the process is gone soon, and no scratch file is left."""
    arguments = ["--only", "params", "--only", "claims", "--output", str(tmp_path)]
    code = (
        "import signal, sys, threading, os\nfrom theworld_validate import whole_suite\n"
        "original = whole_suite.check_claims_of\n"
        "def interrupted(*args, **kwargs):\n"
        "    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    return original(*args, **kwargs)\n"
        "whole_suite.check_claims_of = interrupted\n"
        "from theworld_validate.cli import main\nsys.argv[1:] = " + repr(arguments) + "\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.endswith("interrupted\n")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "error"
    assert [check["id"] for check in report["checks"]] == ["params.components", "params.presets", "interrupted"]
    assert not list(tmp_path.glob(".*"))


def test_an_interrupt_that_a_library_swallows_ends_the_run_at_the_next_step(tmp_path: Path) -> None:
    begun = []

    def body(progress: Any) -> list[CheckResult]:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        begun.append("swallowed")
        progress("next")
        begun.append("next")
        return []

    def last_step(progress: Any) -> list[CheckResult]:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        return []

    before = signal.getsignal(signal.SIGINT)
    assert run_checks("a", Options(output=tmp_path), body) == 130
    assert begun == ["swallowed"]
    assert run_checks("a", Options(output=tmp_path), last_step) == 130
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_fingerprints_of_two_processes_are_equal(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    """Each with a hash seed of its own: what is observed must not depend on it."""
    for name, target in (("a", "transformers:Gemma3ForConditionalGeneration"), ("b.json", "theworld:TheWorld")):
        command = [
            sys.executable,
            "-m",
            "theworld_validate",
            "fingerprint",
            "--model",
            str(tiny.gemma),
            "--target",
            target,
        ]
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


def test_isolated_parity(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", "--isolate", "--model", tiny.gemma, "--candidate", FAULTY + "train_mode", "--json")
    assert result.exit_code == 1
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert [id_ for id_, check in checks.items() if check["status"] == "failed"] == ["parity.modules"]
    assert checks["parity.control"]["status"] == "passed"


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
        "import sys\nfrom typer.testing import CliRunner\nfrom theworld_validate.cli import app\n"
        f"for command in ([], *(name.split() for name in {COMMANDS!r})):\n"
        "    result = CliRunner().invoke(app, [*command, '--help'])\n"
        "    assert result.exit_code == 0 and 'Usage' in result.output, result.output\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy', 'xxhash'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
