"""Environments: what is installed once, and what is refused in one line. pip runs for real, and without an index."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld_validate.releases import environments, processes
from theworld_validate.releases.environments import RECORD, Overlay, find_overlay, install_overlay
from theworld_validate.releases.forking import imported_from
from theworld_validate.releases.processes import Task, run_tasks
from theworld_validate.releases.requests import Request
from theworld_validate.results import InputError


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of two packages in a folder; pip sees nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    _write_wheel(folder, "whole_thing", "1.0", "")
    _write_wheel(folder, "broken_thing", "2.0", "Requires-Dist: nowhere-to-be-found>=3\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _write_wheel(folder: Path, name: str, version: str, requires: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_hash(text)},{len(text)}\n" for path, text in files.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(path, text)


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_a_release_is_installed_once(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "environments"
    made = install_overlay("whole_thing", "1.0", root)
    assert made.packages == {"whole_thing": "1.0"}
    assert (made.site / "whole_thing" / "__init__.py").is_file()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was run again"))
    assert find_overlay("whole_thing", "1.0", root) == made
    assert [path.name for path in root.iterdir()] == ["whole_thing-1.0"]


def test_one_that_was_resolved_against_another_torch_is_installed_anew(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "environments"
    install_overlay("whole_thing", "1.0", root)
    monkeypatch.setattr(environments, "version", lambda _name: "0.0.1")
    assert find_overlay("whole_thing", "1.0", root) is None


def test_one_without_its_record_is_not_whole(wheels: Path, tmp_path: Path) -> None:
    root = tmp_path / "environments"
    install_overlay("whole_thing", "1.0", root)
    (root / "whole_thing-1.0" / RECORD).unlink()
    assert find_overlay("whole_thing", "1.0", root) is None


def test_a_version_that_does_not_exist_is_one_line(wheels: Path, tmp_path: Path) -> None:
    root = tmp_path / "environments"
    with pytest.raises(InputError, match=r"^whole_thing==9\.9: no such release that installs here; .* 1\.0$"):
        install_overlay("whole_thing", "9.9", root)
    assert list(root.iterdir()) == []


def test_an_install_that_fails_is_one_line_and_leaves_nothing(wheels: Path, tmp_path: Path) -> None:
    root = tmp_path / "environments"
    with pytest.raises(InputError, match=r"^broken_thing==2\.0: .*nowhere-to-be-found") as raised:
        install_overlay("broken_thing", "2.0", root)
    assert "\n" not in str(raised.value)
    assert list(root.iterdir()) == []


def test_the_command_says_so_and_ends_with_2(wheels: Path, tmp_path: Path) -> None:
    result = invoke(
        "releases",
        "--of",
        "broken_thing",
        "--versions",
        "2.0,9.9",
        "--model",
        tmp_path,
        "--environments",
        tmp_path / "e",
    )
    assert_input_error(result, "broken_thing==2.0", "nowhere-to-be-found")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--versions", "5.0.0"), "--versions names one release; name two or more"),
        (("--versions", "5.0.0,5.0.0"), "--versions names a release twice"),
        (("--versions", "5.0.0,-e ."), "'-e .' is no version"),
        (("--versions", "5.0.0,5.1.0", "--of", "torch"), "--of torch: torch is shared"),
        (("--versions", "5.0.0,5.1.0", "--of", "../x"), "is no name of a package"),
    ],
)
def test_what_is_no_release_is_refused_before_anything_runs(arguments: tuple[str, ...], says: str) -> None:
    assert_input_error(invoke("releases", *arguments), says)


def test_the_observing_side_imports_nothing_of_the_model_nor_of_the_library() -> None:
    code = (
        "import sys, theworld_validate.releases.observe\n"
        "known = [n for n in sys.modules if n.startswith(('theworld.', 'transformers', 'torch', 'diffusers'))]\n"
        "readers = ('theworld.checkpoints', 'theworld.auto_registration')\n"
        "print(sorted(n for n in known if not n.startswith(readers)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "THEWORLD_AUTO_CLASSES": "0"}
    command = [sys.executable, "-S", "-P", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stdout


def test_the_server_has_torch_and_nothing_that_a_release_may_have_another_one_of() -> None:
    code = (
        "import sys; from theworld_validate.releases.forking import preload; preload()\n"
        "own = ('transformers', 'tokenizers', 'safetensors', 'huggingface_hub', 'accelerate', 'diffusers')\n"
        "print('torch._dynamo' in sys.modules, [name for name in own if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-S", "-P", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n", done.stdout


def test_a_server_that_ends_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_SERVER", "keyword")
    overlay = Overlay(library="x", version="1", packages={}, shared={}, folder=tmp_path)
    request = Request(target="a:b", checkpoint="c", dtype="float32", probes="p", fingerprint="f", answer="a")
    tasks = [Task(name=name, overlay=overlay, request=request) for name in ("one", "two")]
    done = run_tasks(tasks, tmp_path, timeout_seconds=60, at_once=1)
    assert {result.answer.failure for result in done.values()} == {
        "the server of processes exited with code 0 before it was asked to"
    }
    assert list(done) == ["one", "two"]


def test_a_folder_that_holds_what_is_imported_is_found(tmp_path: Path) -> None:
    for name in ("json", "nothing_of_ours", "numpy-1.dist-info"):
        (tmp_path / name).mkdir()
    (tmp_path / "argparse.py").touch()
    assert imported_from(tmp_path) == {"json", "argparse"}


def test_a_release_that_takes_too_long_is_ended_and_said(tmp_path: Path) -> None:
    package = tmp_path / "site" / "theworld_validate"
    (package / "releases").mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "releases" / "__init__.py").write_text("", encoding="utf-8")
    (package / "releases" / "observe.py").write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    overlay = Overlay(library="x", version="1", packages={}, shared={}, folder=tmp_path)
    request = Request(
        target="a:b", checkpoint="c", dtype="float32", probes="p", fingerprint="f", answer=str(tmp_path / "answer.json")
    )
    task = Task(name="slow", overlay=overlay, request=request)
    done = run_tasks([task], tmp_path, timeout_seconds=0.3, at_once=1)
    assert done["slow"].answer.failure == "it took more than 0.3 seconds and was ended; --timeout gives it more"
    assert done["slow"].seconds < 30
