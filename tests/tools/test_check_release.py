"""The release check: a good release passes, and each fault that is planted is named."""

import importlib.util
import io
import tarfile
import tomllib
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


METADATA = """Metadata-Version: 2.4
Name: theworld
Project-URL: Homepage, https://x.org
Project-URL: Documentation, https://x.org/docs
Project-URL: Changelog, https://x.org/changes
Project-URL: Issues, https://x.org/issues

# TheWorld

[docs](https://x.org/docs) [here](#here)
"""


def write_release(
    check: Any,
    dist: Path,
    *,
    more: str = "",
    size: int = 1,
    less: str = "",
    version: str = __version__,
    metadata: str = METADATA,
) -> None:
    dist.mkdir()
    information = f"theworld-{version}.dist-info"
    licence = f"{information}/licenses/LICENSE"
    with zipfile.ZipFile(dist / f"theworld-{version}-py3-none-any.whl", "w") as wheel:
        for name in (*check.NEEDED, licence, "theworld/__init__.py", *([more] if more else [])):
            if not less or not name.endswith(less):
                wheel.writestr(name, "x" * (size if name == more else 1))
        wheel.writestr(f"{information}/METADATA", metadata)
    with tarfile.open(dist / f"theworld-{version}.tar.gz", "w:gz") as sdist:
        for name in (
            *check.NEEDED_OF_SOURCE,
            "tests/reports/fine.json",
            *([more] if more.startswith("reports") else []),
        ):
            if name != less:
                sdist.addfile(tarfile.TarInfo(f"theworld-{version}/{name}"), io.BytesIO())


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ({}, None),
        ({"more": "tests/test_x.py"}, "tests/test_x.py has no place in it"),
        (
            {"more": "reports/x/report.json"},
            f".tar.gz: theworld-{__version__}/reports/x/report.json has no place in it",
        ),
        ({"more": "theworld/big.bin", "size": 300_000}, "theworld/big.bin is 300,000 bytes"),
        (
            {"less": "theworld_validate/documents/report.schema.json"},
            "theworld_validate/documents/report.schema.json is missing",
        ),
        ({"less": "theworld/py.typed"}, ".whl: theworld/py.typed is missing"),
        ({"less": "licenses/LICENSE"}, ".whl: licenses/LICENSE is missing"),
        ({"less": "docs/index.md"}, ".tar.gz: docs/index.md is missing"),
        ({"metadata": METADATA.replace("Project-URL: Issues", "X-Issues")}, "no link Issues in the metadata"),
        ({"metadata": METADATA + "[a](docs/a.md)\n"}, "docs/a.md leads nowhere on the package index"),
        ({"metadata": METADATA + "[a][b]\n\n[b]: docs/b.md\n"}, "docs/b.md leads nowhere on the package index"),
        ({"version": "9.9.9"}, f"not version {__version__}"),
    ],
)
def test_a_release(check: Any, tmp_path: Path, release: dict[str, Any], message: str | None) -> None:
    write_release(check, tmp_path / "dist", **release)
    found = check.faults(tmp_path / "dist")
    assert (found == []) if message is None else any(message in line for line in found), found


def test_what_is_built_is_what_is_checked(check: Any) -> None:
    """The files that a release must hold are in the project, where the build takes them from."""
    root = SCRIPT.parents[1]
    places = (root, root / "validation")
    assert [name for name in check.NEEDED if not any((place / name).is_file() for place in places)] == []
    assert [name for name in check.NEEDED_OF_SOURCE if not (root / name).is_file()] == []
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(project["project"]["urls"]) == set(check.LINKS)
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {f"/{name.split('/')[0]}" for name in check.NEEDED_OF_SOURCE} <= set(included)


def test_an_empty_folder_is_no_release(check: Any, tmp_path: Path) -> None:
    assert "0 wheels and 0 sdists" in check.faults(tmp_path)[0]
