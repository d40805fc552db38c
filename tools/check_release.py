"""Whether a built release is what it should be; run by `nox -s release_check`, prints one line a thing that is not.

    python tools/check_release.py DIST

In: a folder with one wheel and one sdist. Checked: no test, report or large file is in the wheel; the schema, the
template, the markers of types and the licence are; documents and their figures are in the sdist; the version stands in
the archives' names and in CHANGELOG.md; the metadata has the project's links, and a description whose links work on
the package index.
"""

import argparse
import email
import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_FILE_BYTES = 200_000
NEEDED = (
    "theworld_validate/documents/report.schema.json",
    "theworld_validate/rendering/page/page.html.jinja",
    "theworld_validate/rendering/page/page.css",
    "theworld_validate/rendering/page/page.js",
    "theworld_validate/audits/claims.toml",
    "theworld_validate/py.typed",
    "theworld/py.typed",
    "theworld_autoload.py",
    "theworld_autoload.pth",
)
NEEDED_OF_SOURCE = ("LICENSE", "README.md", "CHANGELOG.md", "docs/index.md", "docs/figures/data-flow.svg", "mkdocs.yml")
LINKS = ("Homepage", "Documentation", "Changelog", "Issues")
ALLOWED = re.compile(r"(theworld|theworld_validate)/|theworld_autoload\.(py|pth)$|theworld-[^/]*\.dist-info/")


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
    found += [f"{wheel.name}: {name} is missing" for name in NEEDED if name not in files]
    return found + _of_metadata(wheel, files)


def _of_metadata(wheel: Path, files: Iterable[str]) -> list[str]:
    """What the package index shows: the licence's text, links, and the description."""
    information = {name.partition(".dist-info/")[2]: name for name in files if ".dist-info/" in name}
    found = [f"{wheel.name}: {name} is missing" for name in ("METADATA", "licenses/LICENSE") if name not in information]
    if "METADATA" not in information:
        return found
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(information["METADATA"]))
    given = {value.partition(",")[0] for value in metadata.get_all("Project-URL", [])}
    found += [f"{wheel.name}: no link {name} in the metadata" for name in LINKS if name not in given]
    description = metadata.get_payload()
    assert isinstance(description, str)
    links = re.findall(r"\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)$", description, re.MULTILINE)
    relative = [link for link in ("".join(pair) for pair in links) if not link.startswith(("https://", "#"))]
    return found + [f"{wheel.name}: {link} leads nowhere on the package index" for link in relative]


def _of_sdist(sdist: Path) -> list[str]:
    with tarfile.open(sdist) as archive:
        members = [(member.name, member.size) for member in archive.getmembers()]
    found = [f"{sdist.name}: {name} is {size:,} bytes" for name, size in members if size > MAX_FILE_BYTES]
    found += [f"{sdist.name}: {name} has no place in it" for name, _ in members if name.split("/")[1:2] == ["reports"]]
    names = {name.partition("/")[2] for name, _ in members}
    return found + [f"{sdist.name}: {name} is missing" for name in NEEDED_OF_SOURCE if name not in names]


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
