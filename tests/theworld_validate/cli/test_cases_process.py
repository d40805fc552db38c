"""Faults of process and place: signals, full disks, closed pipes, permissions, folders that are gone, strange paths.

Real processes are started only where the process itself is what is tested.
"""

import contextlib
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint, recipe_digest

CANDIDATES = "tests.theworld_validate.cli.misbehaving_candidates:"
COMMAND = [sys.executable, "-m", "theworld_validate"]
REPOSITORY = Path(__file__).parents[3]
MARK = "THEWORLD_TEST_MARK"  # in the environment of every process that a test starts, and of what those start


def start(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> "subprocess.Popen[str]":
    """Start the command as a process of its own, leader of its own group."""
    defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": REPOSITORY}
    command = [*options.pop("wrapper", ()), *COMMAND, *map(str, arguments)]
    return subprocess.Popen(
        command, text=True, start_new_session=True, env=os.environ | (env or {}), **(defaults | options)
    )


def run(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the command as a process of its own."""
    with start(*arguments, **options) as process:
        stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def assert_error_line(done: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    """Hold a process against what cannot be used or written: exit code 2, and one line that has all the parts."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@contextlib.contextmanager
def files_limited_to(num_bytes: int) -> Iterator[None]:
    """A disk that takes so much of a file and no more, for this process; workers are not touched."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_files() -> None:
    """The same, of 200 kB, for a process that is about to start and for all that it starts."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.fixture(scope="module")
def small_report(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that passes, of a command that takes no time."""
    folder = tmp_path_factory.mktemp("small") / "report"
    assert invoke("files", tiny.gemma, "--output", folder).exit_code == 0
    return folder


# Candidates that end the process


@pytest.mark.parametrize("candidate", ["exits_with_0", "exits_at_once"])
def test_exit_code_0_of_a_candidate_is_not_the_commands(
    tiny: SyntheticCheckpoint, tmp_path: Path, small_report: Path, candidate: str
) -> None:
    """The older report that passed is replaced."""
    output = Path(shutil.copytree(small_report, tmp_path / "report"))
    arguments = ("--model", tiny.gemma, "--probe", "text", "--candidate", CANDIDATES + candidate)
    done = run("parity", *arguments, "--output", output)
    assert done.returncode == 1, done.stderr
    report = json.loads((output / "report.json").read_text())
    assert (report["verdict"], report["command"]) == ("failed", "theworld-validate parity")
    assert (output / "report.md").read_text().startswith("# theworld-validate: failed")


def test_a_finished_command_leaves_nothing_in_the_temporary_folder(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    """Neither the fork server's socket nor the scratch of a report; torch's own folder stays."""
    arguments = ("--model", tiny.gemma, "--probe", "text", "--candidate", CANDIDATES + "exits_with_0")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # short: a socket's path has 107 bytes at the most
        done = run("parity", *arguments, "--output", tmp_path / "report", env={"TMPDIR": folder})
        assert done.returncode == 1, done.stderr
        assert {path.name.partition("_")[0] for path in Path(folder).iterdir()} <= {"torchinductor"}


def test_a_temporary_folder_with_too_long_a_path_is_one_line(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    done = run("parity", "--model", tiny.gemma, "--probe", "text", env={"TMPDIR": str(folder)})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"{folder}: too long a path for a socket in it; set TMPDIR to a shorter folder")


# Signals


def processes_of(mark: str) -> list[str]:
    """The processes that have a mark in their environment."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and f"{MARK}={mark}\0".encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text().replace("\0", " "))
    return found


def assert_none_is_left(mark: str, *, seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while (left := processes_of(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


Wait = Callable[["subprocess.Popen[str]"], None]


def seconds_of(seconds: float) -> Wait:
    """Wait so long; the process must still run."""

    def wait(process: "subprocess.Popen[str]") -> None:
        time.sleep(seconds)
        assert process.poll() is None, process.communicate()

    return wait


def interrupt(
    *arguments: object,
    wait: Wait,
    number: int = signal.SIGINT,
    group: bool = False,
    env: dict[str, str] | None = None,
    **options: Any,
) -> "subprocess.CompletedProcess[str]":
    """Send a signal to the command, or to its whole process group: it ends within a second, with all it started."""
    mark = uuid.uuid4().hex
    with start(*arguments, env={MARK: mark} | (env or {}), **options) as process:
        wait(process)
        (os.killpg if group else os.kill)(process.pid, number)
        sent = time.monotonic()
        stdout, stderr = process.communicate(timeout=30)
        seconds = time.monotonic() - sent
    assert process.returncode == 130, stderr
    assert seconds < 1.0
    assert_none_is_left(mark)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


@pytest.mark.parametrize(("moment", "number"), [(0.3, signal.SIGINT), (1.0, signal.SIGTERM), (2.5, signal.SIGINT)])
def test_an_interrupt_of_parity(tiny: SyntheticCheckpoint, moment: float, number: signal.Signals) -> None:
    done = interrupt("parity", "--model", tiny.gemma, "--isolate", wait=seconds_of(moment), number=number)
    assert (done.stdout, done.stderr) == ("", "interrupted\n")


@pytest.mark.parametrize("moment", [0.8, 3.0])
def test_an_interrupt_of_the_whole_group(moment: float) -> None:
    """As Ctrl-C does it: the fork server, while it imports, and workers get the signal too."""
    done = interrupt("memory", "predict", "--config", "4b", wait=seconds_of(moment), group=True)
    assert (done.stdout, done.stderr) == ("", "interrupted\n")


def test_an_interrupt_of_synth_leaves_nothing(tmp_path: Path) -> None:
    done = interrupt("synth", tmp_path / "new", "--size", "4b", wait=until(lambda: any(tmp_path.iterdir())))
    assert (done.stdout, done.stderr) == ("", "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def until(is_so: Callable[[], bool]) -> Wait:
    """Wait until something is so."""

    def wait(process: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + 60
        while not is_so():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return wait


def test_an_interrupt_of_the_bare_command_keeps_finished_checks(tmp_path: Path) -> None:
    """On a terminal, whose progress bar says which step is interrupted."""
    output = tmp_path / "report"
    terminal, stderr = os.openpty()
    os.set_blocking(terminal, False)
    shown = bytearray()

    def is_at_the_second_preset() -> bool:
        with contextlib.suppress(BlockingIOError):
            shown.extend(os.read(terminal, 1 << 16))
        return b"gradients under the preset vision" in shown

    groups = ("--only", "files", "--only", "gradients", "--only", "params")
    done = interrupt(
        *groups, "--output", output, wait=until(is_at_the_second_preset), env={"TERM": "xterm"}, stderr=stderr
    )
    os.close(stderr)
    with contextlib.suppress(OSError):  # at its end
        while True:
            shown.extend(os.read(terminal, 1 << 16))
    os.close(terminal)
    assert shown.endswith(b"interrupted\r\n")
    assert b"Traceback" not in shown
    report = json.loads((output / "report.json").read_text())
    assert report["verdict"] == "error"
    ids = [check["id"] for check in report["checks"]]
    assert ids == ["files.keys", "files.values", "gradients.projection", "interrupted"]
    assert {path.name for path in output.iterdir()} == set(report["files"])
    assert "ERROR: 3 of 4 checks passed" in done.stdout


def test_a_killed_command_leaves_no_process(tiny: SyntheticCheckpoint) -> None:
    mark = uuid.uuid4().hex
    candidate = CANDIDATES + "hangs"
    with start("parity", "--model", tiny.gemma, "--candidate", candidate, env={MARK: mark}) as process:
        until(lambda: len(processes_of(mark)) >= 4)(process)  # the command, the tracker, the server and a worker
        process.kill()
        process.communicate(timeout=30)
    assert_none_is_left(mark, seconds=10.0)


# Full disks and unwritable places


@pytest.mark.parametrize("place", ["cache-is-file", "cache-home-file", "home-read-only", "gone"])
def test_a_cache_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.delenv("THEWORLD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    file = tmp_path / "file"
    file.write_text("x")
    if place == "cache-is-file":
        entry = tmp_path / "theworld" / f"tiny-{recipe_digest('tiny', seed=0)}"
        entry.parent.mkdir()
        entry.write_text("x")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        named = str(entry)
    elif place == "cache-home-file":
        monkeypatch.setenv("XDG_CACHE_HOME", str(file))
        named = str(file)
    elif place == "home-read-only":
        monkeypatch.setenv("HOME", "/proc")  # where nobody can make a folder
        named = "/proc/.cache"
    else:
        monkeypatch.setenv("THEWORLD_CACHE", "/dev/null/cache")
        named = "/dev/null/cache"
    before = sorted(tmp_path.rglob("*"))
    assert_input_error(invoke("parity", "--probe", "text"), named, "set THEWORLD_CACHE")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cache_on_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("files", env={"THEWORLD_CACHE": str(tmp_path / "cache")}, preexec_fn=limit_files)
    assert_error_line(done, "cache", "File too large", "set THEWORLD_CACHE")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_synth_on_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("synth", tmp_path / "new", preexec_fn=limit_files)
    assert_error_line(done, "File too large")
    assert list(tmp_path.iterdir()) == []


def test_a_report_on_a_full_disk_leaves_the_old_one_whole(
    tiny: SyntheticCheckpoint, tmp_path: Path, small_report: Path
) -> None:
    """What was found is still printed."""
    output = Path(shutil.copytree(small_report, tmp_path / "report"))
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with files_limited_to(300):
        result = invoke("files", tiny.gemma, "--output", output)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line == f"error: --output {output}: cannot write there (File too large); name another folder"
    assert "PASSED: 2 of 2 checks passed" in result.stdout
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_a_fingerprint_on_a_full_disk_leaves_nothing(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    with files_limited_to(20_000):
        result = invoke("fingerprint", "--model", tiny.gemma, "--output", tmp_path / "new" / "a.json")
    assert_input_error(result, f"--output {tmp_path}/new/a.json: cannot write there (File too large)")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("place", ["/proc/x.json", "/dev/null/x.json", "/proc/version"])
def test_a_fingerprint_to_an_unwritable_place_is_one_line(tiny: SyntheticCheckpoint, place: str) -> None:
    """It is known before anything is loaded."""
    result = invoke("fingerprint", "--model", tiny.gemma, "--output", place)
    assert_input_error(result, f"--output {place}", ": cannot write there (", "; name another place")


def test_a_folder_that_has_a_figures_name_is_left_alone(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "a.b.svg").mkdir()
    result = invoke("files", tiny.gemma, "--output", tmp_path)
    assert (result.exit_code, result.stderr) == (0, f"report: {tmp_path}/report.html\n")
    assert (tmp_path / "a.b.svg").is_dir()


@pytest.mark.parametrize("name", ["report.html", "report.json", "junit.xml"])
def test_a_folder_in_a_forms_place_is_one_line_before_anything_is_run(
    tiny: SyntheticCheckpoint, tmp_path: Path, small_report: Path, name: str
) -> None:
    output = Path(shutil.copytree(small_report, tmp_path / "report"))
    (output / name).unlink()
    (output / name).mkdir()
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    assert_input_error(invoke("files", tiny.gemma, "--output", output), f"--output {output}: ", name)
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("summary", ["/nowhere/x", "/proc/x", "FOLDER", "/dev/full"])
def test_a_summary_that_cannot_be_written_costs_one_line(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: str
) -> None:
    summary = str(tmp_path) if summary == "FOLDER" else summary
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", summary)
    result = invoke("files", tiny.gemma, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["verdict"] == "passed"
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"GITHUB_STEP_SUMMARY {summary}: not written (")


# Streams


@pytest.mark.parametrize("options", [("--json",), ()])
def test_a_full_stdout_is_no_pass(small_report: Path, options: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("regress", small_report, small_report, *options, stdout=full)
    assert_error_line(done, "No space left on device")


def test_a_closed_stdout_is_no_pass_under_json(small_report: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run("regress", small_report, small_report, "--json", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")


def test_a_reader_that_has_seen_enough_changes_no_verdict(small_report: Path) -> None:
    """As `| head -1` does it."""
    read, write = os.pipe()
    with start("regress", small_report, small_report, stdout=write) as process:
        os.close(write)
        assert os.read(read, 1) == b"$"  # the first line is the command's own
        os.close(read)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")


@pytest.mark.parametrize(("option", "code"), [("--quiet", 0), ("--json", 2), ("--debug", 2)])
def test_closed_streams(small_report: Path, option: str, code: int) -> None:
    """A report that is to be printed, and cannot be, is no pass; no other file takes the streams' place."""

    def close_all() -> None:
        os.closerange(0, 3)

    done = run("regress", small_report, small_report, option, preexec_fn=close_all)
    assert done.returncode == code


# Permissions and places


def test_what_may_not_be_read_is_named(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    """A folder, its config, a shard and a report; by root too, without its power over permissions."""
    wrapper = []
    if os.geteuid() == 0:
        if (setpriv := shutil.which("setpriv")) is None:
            pytest.skip("runs as root, and there is no setpriv")
        wrapper = [setpriv, "--bounding-set", "-dac_override,-dac_read_search"]
    named = {}
    for name in (".", "config.json", "model-00002-of-00004.safetensors", "model.safetensors.index.json"):
        folder = Path(shutil.copytree(tiny.gemma, tmp_path / f"no {name}"))
        (folder / name).chmod(0)
        named[str(folder)] = str(folder / name)
    code = (
        "import json, sys\n"
        "from tests.theworld_validate.command_line import assert_input_error, invoke\n"
        "for folder, named in json.loads(sys.argv[1]).items():\n"
        "    for command in ('parity', 'files', 'params'):\n"
        "        model = (folder,) if command == 'files' else ('--model', folder)\n"
        "        cosmos = ('--cosmos', sys.argv[2]) if command == 'params' else ()\n"
        "        if command != 'params' or named in (folder, folder + '/config.json'):\n"
        "            result = invoke(command, *model, *cosmos)\n"
        "            assert_input_error(result, named, 'permission denied')\n"
    )
    command = [*wrapper, sys.executable, "-c", code, json.dumps(named), str(tiny.cosmos)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    for folder in named:
        Path(folder).chmod(0o755)  # so that it can be removed
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("files", "GEMMA"), 0),
        (("parity", "--model", "GEMMA", "--probe", "text"), 0),
        (("files", "gemma"), 2),
        (("files", "GEMMA", "--output", "relative"), 2),
        (("parity", "--model", "GEMMA", "--probe", "text", "--candidate", "nowhere:X"), 2),
    ],
)
def test_a_working_directory_that_is_gone(
    tiny: SyntheticCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    result = invoke(*(str(tiny.gemma) if argument == "GEMMA" else argument for argument in arguments))
    assert result.exit_code == code, result.output
    if code:
        assert_input_error(result)


def test_a_process_that_starts_where_nothing_is(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    done = run("files", tiny.gemma, cwd=folder, preexec_fn=folder.rmdir)
    assert (done.returncode, done.stderr) == (0, "")


STRANGE = {
    "newline": "nodir\na",
    "annotation": "nodir-x\n::error::PWN",
    "bidi": "nodir-a\u202eb\x9b31m",
    "undecodable": os.fsdecode(b"\xff\xfe-ck"),
    "long": "a" * 5000,
    "longer than a name": "a" * 300,
}


@pytest.mark.parametrize("command", ["parity", "files", "diff", "regress", "fingerprint", "render", "memory"])
@pytest.mark.parametrize("path", STRANGE.values(), ids=STRANGE.keys())
def test_a_strange_path_is_one_clean_line(tiny: SyntheticCheckpoint, tmp_path: Path, command: str, path: str) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "parity": ("--model", path),
        "files": (path,),
        "diff": (path, path),
        "regress": (path, path),
        "fingerprint": ("--model", path, "--output", tmp_path / "a.json"),
        "render": (path,),
        "memory": ("predict", "--config", path),
    }
    result = invoke(command, *arguments[command])
    assert_input_error(result)
    assert result.stderr.rstrip("\n").isprintable()
    assert len(result.stderr) < 1500
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", STRANGE.values(), ids=STRANGE.keys())
def test_a_strange_output_folder_is_made_or_is_one_clean_line(
    tiny: SyntheticCheckpoint, tmp_path: Path, path: str
) -> None:
    result = invoke("files", tiny.gemma, "--output", tmp_path / path)
    assert result.stderr.rstrip("\n").isprintable()
    if len(path) > 255:
        assert_input_error(result, "--output")
        assert list(tmp_path.iterdir()) == []
    else:
        assert result.exit_code == 0, result.output
        assert (tmp_path / path / "report.html").is_file()


@pytest.mark.parametrize("path", ["a b", *(STRANGE[name] for name in ("newline", "annotation", "bidi"))])
def test_a_strange_place_is_shown_on_one_line(tiny: SyntheticCheckpoint, tmp_path: Path, path: str) -> None:
    result = invoke("synth", tmp_path / path)
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    assert line.isprintable()
    assert line.startswith("next: theworld-validate --model ")
    if path == "a b":
        assert shlex.split(line)[3] == f"{tmp_path}/a b/gemma"
    rendered = invoke("files", tiny.gemma, "--output", tmp_path / path / "report")
    assert rendered.exit_code == 0
    result = invoke("render", tmp_path / path / "report")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.rstrip("\n").isprintable()


@pytest.mark.parametrize("command", ["parity", "files", "fingerprint"])
def test_a_checkpoint_at_a_path_that_is_no_text_is_one_clean_line(
    tiny: SyntheticCheckpoint, tmp_path: Path, command: str
) -> None:
    folder = shutil.copytree(tiny.gemma, tmp_path / STRANGE["undecodable"])
    output = ("--output", tmp_path / "new")
    result = invoke(command, *((folder,) if command == "files" else ("--model", folder)), *output)
    assert_input_error(result, "\\udcff\\udcfe-ck: the path is not UTF-8", "rename the folder")
