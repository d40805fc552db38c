"""The release check: a good release passes, and each fault that is planted is named."""

import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from theworld import __version__

SCRIPT = Path(__file__).parents[2] / "tools" / "check_release.py"


@pytest.fixture(scope="module")
def check() -> Any:
    spec = importlib.util.spec_from_file_location("check_release", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_release(
    check: Any, dist: Path, *, more: str = "", size: int = 1, less: str = "", version: str = __version__
) -> None:
    dist.mkdir()
    with zipfile.ZipFile(dist / f"theworld-{version}-py3-none-any.whl", "w") as wheel:
        for name in (*check.NEEDED, "theworld/__init__.py", *([more] if more else [])):
            if name != less:
                wheel.writestr(name, "x" * (size if name == more else 1))
    with tarfile.open(dist / f"theworld-{version}.tar.gz", "w:gz") as sdist:
        sdist.addfile(tarfile.TarInfo(f"theworld-{version}/pyproject.toml"), io.BytesIO())


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ({}, None),
        ({"more": "tests/test_x.py"}, "tests/test_x.py has no place in it"),
        ({"more": "theworld/big.bin", "size": 300_000}, "theworld/big.bin is 300,000 bytes"),
        (
            {"less": "theworld_validate/documents/report.schema.json"},
            "theworld_validate/documents/report.schema.json is missing",
        ),
        ({"version": "9.9.9"}, f"not version {__version__}"),
    ],
)
def test_a_release(check: Any, tmp_path: Path, release: dict[str, Any], message: str | None) -> None:
    write_release(check, tmp_path / "dist", **release)
    found = check.faults(tmp_path / "dist")
    assert (found == []) if message is None else any(message in line for line in found), found


def test_an_empty_folder_is_no_release(check: Any, tmp_path: Path) -> None:
    assert "0 wheels and 0 sdists" in check.faults(tmp_path)[0]
