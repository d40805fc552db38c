"""Whether a built release is what it should be; run by `nox -s release_check`, prints one line a thing that is not.

    python tools/check_release.py DIST

In: a folder with one wheel and one sdist. Checked: no test, report or large file is in the wheel, the schema and the
template are, and the version stands in the wheel's name, in CHANGELOG.md and in both archives' metadata.
"""

import argparse
import re
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_FILE_BYTES = 200_000
NEEDED = (
    "theworld_validate/documents/report.schema.json",
    "theworld_validate/rendering/report.html.jinja",
    "theworld_validate/audits/claims.toml",
)
ALLOWED = re.compile(r"(theworld|theworld_validate)/|theworld-[^/]*\.dist-info/")


def faults(dist: Path) -> list[str]:
    """What is wrong with a release."""
    wheels, sdists = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        return [f"{dist}: {len(wheels)} wheels and {len(sdists)} sdists; there must be one of each"]
    return [*_of_version(wheels[0], sdists[0]), *_of_wheel(wheels[0]), *_of_sdist(sdists[0])]


def _of_wheel(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info.file_size for info in archive.infolist()}
    found = [f"{wheel.name}: {name} has no place in it" for name in files if not ALLOWED.match(name)]
    found += [f"{wheel.name}: {name} is {size:,} bytes" for name, size in files.items() if size > MAX_FILE_BYTES]
    return found + [f"{wheel.name}: {name} is missing" for name in NEEDED if name not in files]


def _of_sdist(sdist: Path) -> list[str]:
    with tarfile.open(sdist) as archive:
        members = [(member.name, member.size) for member in archive.getmembers()]
    found = [f"{sdist.name}: {name} is {size:,} bytes" for name, size in members if size > MAX_FILE_BYTES]
    return found + [f"{sdist.name}: {name} has no place in it" for name, _ in members if "/reports/" in name]


def _of_version(wheel: Path, sdist: Path) -> list[str]:
    text = (ROOT / "theworld" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None
    version = found[1]
    wrong = [f"{file.name}: not version {version}" for file in (wheel, sdist) if f"-{version}" not in file.name]
    if not re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE):
        wrong.append(f"CHANGELOG.md: no section for version {version}")
    return wrong


def main() -> None:
    """Print what is wrong; exit code 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    found = faults(parser.parse_args().dist)
    for line in found:
        print(line)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
