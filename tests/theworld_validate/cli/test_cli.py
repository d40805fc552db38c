"""The command line: exit codes, JSON alone on stdout, one line for bad input, help without torch."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.theworld_validate import faulty_candidates
from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate import suite
from theworld_validate.cli.session import Options, run_checks
from theworld_validate.documents.observations import SECTIONS
from theworld_validate.results import CheckResult, Status
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Message, Step
from theworld_validate.workers.run import Audit, Run, check_in_worker

FAULTY = "tests.theworld_validate.faulty_candidates:"
FLOAT32 = ("--dtype", "float32")  # many times faster where a processor has no bfloat16
CHECKS = ("parity", "fingerprint", "diff", "selftest", "world")
AUDITS = ("files", "buffers", "params", "gradients", "globals", "claims")
REPORTS = ("regress", "render", "memory", "memory measure", "memory predict")
COMMANDS = (*CHECKS, *AUDITS, *REPORTS, "synth", "doctor")
BARE_CHECKS = [
    "parity.control", "parity.files", "parity.config", "parity.modules", "parity.parameters", "parity.buffers",
    "parity.globals", "parity.gradients", "parity.probe.text", "parity.probe.image", "parity.probe.two_images",
    "parity.probe.left_padded_batch", "parity.probe.right_padded_batch", "parity.probe.beyond_window",
    "parity.probe.cached_decode", "parity.round_trip", "globals.theworld",
    "globals.cosmos_pipeline", "files.keys", "files.values", "world.tokens", "world.effect",
    "world.gradients", "world.batch", "world.image", "world.first_step", "world.padding", "world.time", "world.latents",
    "world.rollout", "buffers.bfloat16", "buffers.bfloat16.after_save",
    "gradients.projection", "gradients.vision", "gradients.language", "gradients.full", "params.components",
    "params.presets", "memory.predict", "claims.loading",
    "claims.counts", "claims.presets", "claims.shapes", "claims.memory", "claims.speed", "claims.precision",
    "claims.training",
]  # fmt: skip


@pytest.fixture(scope="module")
def bare(_quiet_and_own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The bare command, run once: its folder and its result."""
    folder = tmp_path_factory.mktemp("bare") / "report"
    return folder, invoke("--output", folder)


def test_bare_command_passes_and_writes_a_report(bare: tuple[Path, Result]) -> None:
    folder, result = bare
    assert result.exit_code == 0, result.output
    report = json.loads((folder / "report.json").read_text())
    assert report["schema"] == "theworld-validate/2"
    assert report["verdict"] == "passed"
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert list(statuses) == BARE_CHECKS
    skipped = {check["id"]: check["reason"] for check in report["checks"] if check["status"] == "skipped"}
    assert "holds a transformer" in skipped.pop("world.rollout")
    assert skipped == {"claims.memory": "15 claims need a GPU", "claims.speed": "2 claims need a GPU"}
    assert set(statuses.values()) == {"passed", "skipped"}
    probes = [check for check in report["checks"] if check["id"].startswith("parity.probe.")]
    assert [probe["measurements"]["probe"] for probe in probes] == report["plan"]["probes"]
    assert all(probe["measurements"]["tensors_compared"] > 0 for probe in probes)
    assert report["plan"]["sections"] == list(SECTIONS)
    roles = [subject["role"] for subject in report["subjects"]]
    assert roles[:2] == ["reference", "candidate"]
    assert {subject["checkpoint_digest"] for subject in report["subjects"][:2]} != {None}
    assert report["environment"]["packages"]["torch"]
    assert f"PASSED: {len(statuses) - 3} of {len(statuses)} checks passed" in result.stdout
    assert result.stdout.count("the first implementation notes' claims: ") == 1
    assert (
        "the first implementation notes' claims: 26 hold, 13 are explained, 7 are refuted, 17 need a GPU"
        in result.stdout
    )
    assert "claims.presets: warning" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith("PASSED: ")
    assert result.stderr == f"report: {folder}/report.html\n"
    assert (folder / "report.md").read_text().startswith("# theworld-validate: passed")
    figures = {"memory.predict.split.svg", "memory.predict.timeline.svg"}
    written = {path.name for path in folder.iterdir()}
    assert written == {"report.json", "report.md", "report.html", "junit.xml", *figures} == set(report["files"])


def test_forms_are_made_again_from_the_json(bare: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = bare
    result = invoke("render", folder / "report.json", "--output", tmp_path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path}/report.html\n", "")
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_report_about_less_than_the_baseline_proves_nothing(bare: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = bare
    result = invoke("regress", folder, folder)
    assert result.exit_code == 0, result.output
    chosen = invoke("--only", "params", "--only", "world", "--output", tmp_path / "some")
    assert chosen.exit_code == 0, chosen.output
    result = invoke("regress", folder, tmp_path / "some")
    assert result.exit_code == 3
    assert "regress.checks: parity.control: the check was passed, is missing" in result.stdout
    assert "regress.subjects     about something else than the baseline" in result.stdout
    assert "torch_threads" not in result.stdout  # where it ran is known, whatever ran


@pytest.mark.parametrize("arguments", [(), ("CHECKPOINT",)])
def test_files_audits_a_checkpoint_without_loading_it(tiny: SyntheticCheckpoint, arguments: tuple[str, ...]) -> None:
    result = invoke("files", *(str(tiny.gemma) for _ in arguments), "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert [(check["id"], check["status"]) for check in report["checks"]] == [
        ("files.keys", "passed"),
        ("files.values", "passed"),
    ]


def test_json_is_alone_on_stdout(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", *FLOAT32, "--json", "--model", tiny.gemma, "--probe", "text")
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
    sides = (*FLOAT32, "--reference", unstable, "--candidate", unstable)
    result = invoke("parity", "--quiet", "--model", tiny.gemma, "--probe", "text", *sides)
    assert result.exit_code == 3
    assert result.stdout == ""


def test_a_candidate_that_raises_is_a_failed_check_that_says_so(tiny: SyntheticCheckpoint) -> None:
    result = invoke("parity", "--model", tiny.gemma, "--probe", "text", "--candidate", FAULTY + "not_a_model", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert [name for name, check in checks.items() if check["status"] == "failed"] == ["parity.candidate"]
    (finding,) = checks["parity.candidate"]["findings"]
    assert "RuntimeError" in finding["message"]
    assert "kaboom\\nsecond line" in finding["message"]
    assert finding["location"].startswith(str(Path(faulty_candidates.__file__)))


def test_an_error_of_the_harness_exits_4_and_says_how_to_report_it(
    monkeypatch: pytest.MonkeyPatch, tiny: SyntheticCheckpoint, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("kaboom\nsecond line")

    monkeypatch.setattr("theworld_validate.suite.compare_targets", fail)
    arguments = ("parity", "--model", tiny.gemma, "--output", tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 4
    first, second, third = result.stderr.strip().splitlines()
    assert first == "internal error: RuntimeError: kaboom\\nsecond line"
    assert "--debug" in second
    assert "report it at" in second
    assert third == f"report: {tmp_path}/report.html"
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "error"
    assert "Traceback" in invoke(*arguments, "--debug").stderr


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch, tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("theworld_validate.suite.compare_targets", interrupt)
    result = invoke("parity", "--model", tiny.gemma, "--output", tmp_path)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_writes_what_it_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real signal while a worker is at work: what was finished is whole, and no scratch file is left."""

    def interrupted(*_: Any) -> Iterator[CheckResult]:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        yield from check_in_worker(Run(), Audit(job=Job(name="sleeper", function=f"{__name__}:sleep_for_a_minute")))

    monkeypatch.setitem(suite.GROUPS, "claims", replace(suite.GROUPS["claims"], work=interrupted, audit=None))
    began = time.monotonic()
    result = invoke("--only", "params", "--only", "claims", "--output", tmp_path)
    assert time.monotonic() - began < 30
    assert result.exit_code == 130, result.output
    assert result.stderr.endswith("interrupted\n")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "error"
    assert [check["id"] for check in report["checks"]] == ["params.components", "params.presets", "interrupted"]
    assert not list(tmp_path.glob(".*"))


def sleep_for_a_minute() -> Iterator[Message]:
    """The work of a worker that does not end by itself."""
    yield Step(text="sleeping")
    time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_puts_the_handlers_back(tmp_path: Path, number: signal.Signals) -> None:
    begun = []

    def body(_run: Run) -> Iterator[CheckResult]:
        begun.append("first")
        yield CheckResult(id="a.first", status=Status.PASSED, seconds=0.0)
        signal.raise_signal(number)
        begun.append("second")

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run_checks("a", Options(output=tmp_path), body) == 130
    assert begun == ["first"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert [check["id"] for check in report["checks"]] == ["a.first", "interrupted"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


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
            "--dtype",
            "float32",
        ]
        subprocess.run([*command, "--output", str(tmp_path / name)], check=True, capture_output=True)
    result = invoke("diff", tmp_path / "a", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    assert "target is theworld:TheWorld" in result.stdout
    assert "PASSED" in result.stdout


def test_diff_says_what_surrounds_a_difference(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    for name, options in (("a.json", ()), ("b.json", ("--attn", "eager"))):
        written = invoke("fingerprint", *FLOAT32, "--model", tiny.gemma, "--output", tmp_path / name, *options)
        assert written.exit_code == 0, written.output
    result = invoke("diff", tmp_path / "a.json", tmp_path / "b.json", "--json")
    assert result.exit_code == 1
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert next(iter(checks)) == "diff.surroundings"
    assert checks["diff.surroundings"]["findings"][0]["message"] == "attn: attn is eager, expected None"
    assert checks["parity.modules"]["findings"][0]["code"] == "modules.attn_implementation"
    assert checks["parity.parameters"]["status"] == "passed"


def test_isolated_parity(tiny: SyntheticCheckpoint) -> None:
    arguments = ("--isolate", *FLOAT32, "--model", tiny.gemma, "--probe", "text", "--candidate", FAULTY + "train_mode")
    result = invoke("parity", *arguments, "--json")
    assert result.exit_code == 1
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    assert [id_ for id_, check in checks.items() if check["status"] == "failed"] == ["parity.modules"]
    assert checks["parity.control"]["status"] == "passed"


def test_selftest_of_named_faults(tiny: SyntheticCheckpoint) -> None:
    result = invoke("selftest", *FLOAT32, "--model", tiny.gemma, "--fault", "one-ulp", "--fault", "train-mode")
    assert result.exit_code == 0, result.output
    assert "selftest.one-ulp" in result.stdout
    assert_input_error(invoke("selftest", "--fault", "one-upl"), "no such fault; did you mean one-ulp?")
    listed = invoke("selftest", "--list").stdout
    assert "rotary-in-bfloat16" in listed
    assert "transformers #25681" in listed


def test_an_audit_prints_its_table(tiny: SyntheticCheckpoint) -> None:
    result = invoke("params", "--config", "4b")
    assert result.exit_code == 0, result.output
    assert "language_model        3,880,107,008" in result.stdout
    assert "is: multi_modal_projector + vae_quant_conv" in result.stdout
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
    assert (
        result.stdout.strip() == f"next: theworld-validate --model {tmp_path}/new/gemma --cosmos {tmp_path}/new/cosmos"
    )
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
        "    libraries = {'torch', 'transformers', 'diffusers', 'numpy', 'xxhash', 'multiprocessing'}\n"
        # typer itself has pydantic read the values of a command's options.
        "    libraries |= set() if command else {'pydantic'}\n"
        "    heavy = libraries & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
