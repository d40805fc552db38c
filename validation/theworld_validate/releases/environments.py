"""Overlay environments: a folder a release, put before the running environment, which shares torch and the rest.

In: a library, a version, and the folder where environments are kept. Out: an `Overlay`; what is there already is not
installed again. pip resolves and installs, wheels alone, so that no code of a package runs; it is the only thing in
the harness that installs anything, and only versions that the user named.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from theworld.checkpoints.written_files import replace_file
from theworld_validate.documents.reading import parse, read_json_object
from theworld_validate.results import InputError

SHARED = ("torch",)  # what no overlay may replace: every release is to compute with the same kernels
RECORD = "overlay.json"  # in an overlay's folder: written last, so that one without it is not whole
_PACKAGES = "site"
_NAME = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.!+_-]*")
_MAX_RECORD_BYTES = 2**16
_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "-q", "install", "--only-binary", ":all:")
_PIP_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One release, installed.

    Args:
        library: the distribution's name, such as "transformers".
        version: its release.
        packages: what the folder holds, by name: the library, and those of its dependencies that must differ.
        shared: what it was resolved against, by name: the running environment's `SHARED`, and Python.
        folder: where it is.
    """

    library: str
    version: str
    packages: dict[str, str]
    shared: dict[str, str]
    folder: Path

    @property
    def site(self) -> Path:
        """The folder that goes before all others on Python's path."""
        return self.folder / _PACKAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """An overlay's file beside its packages."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}

    library: str
    version: str
    packages: dict[str, str]
    shared: dict[str, str]


def default_root() -> Path:
    """Where environments are kept unless the user says otherwise: in the cache folder."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "theworld" / "environments"


def check_names(library: str, versions: Sequence[str]) -> None:
    """Refuse what is no name or version, before anything is installed.

    Raises:
        InputError: with what is wrong.
    """
    if not _NAME.fullmatch(library):
        raise InputError(f"--of {library[:80]!r} is no name of a package")
    if library.lower() in SHARED:
        raise InputError(f"--of {library}: {library} is shared by all environments; compare two with diff")
    for named in versions:
        if not _VERSION.fullmatch(named):
            raise InputError(f"--versions: {named[:80]!r} is no version; give them as A,B,C, such as 5.12.1,5.13.0")
    if len(set(versions)) < len(versions):
        raise InputError("--versions names a release twice; name each once")
    if len(versions) < 2:
        raise InputError("--versions names one release; name two or more to compare, such as 5.12.1,5.13.0")


def find_overlay(library: str, named: str, root: Path) -> Overlay | None:
    """The environment of a release, where it is there, whole, and was resolved against what is installed now."""
    folder = root / f"{library}-{named}"
    if not (folder / RECORD).is_file():
        return None
    record = parse(
        _adapter(), read_json_object(folder / RECORD, max_bytes=_MAX_RECORD_BYTES), source=str(folder / RECORD)
    )
    if record.shared != _shared() or not (folder / _PACKAGES).is_dir():
        return None
    return Overlay(**asdict(record), folder=folder)


def install_overlay(library: str, named: str, root: Path) -> Overlay:
    """Have pip resolve a release against the running environment, and install what differs into a folder of its own.

    Raises:
        InputError: if there is no such release, pip is missing or fails, or the folder cannot be written.
    """
    requirement = f"{library}=={named}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{library}-{named}-", dir=root) as scratch:
            packages = _resolve(requirement, Path(scratch))
            pins = [f"{name}=={number}" for name, number in packages.items()]
            _pip(("--no-deps", "--no-compile", "--target", str(Path(scratch, _PACKAGES)), *pins), requirement)
            return _place(library, named, packages, Path(scratch), root)
    except OSError as error:
        raise InputError(f"--environments {root}: {error.strerror or error}; name another folder") from error


def _place(library: str, named: str, packages: dict[str, str], made: Path, root: Path) -> Overlay:
    """Put a made folder into its place; of two that were made at once, one stands."""
    import shutil

    record = _Record(library=library, version=named, packages=packages, shared=_shared())
    write_record(made, record.library, record.version, record.packages)
    folder = root / f"{library}-{named}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in (_PACKAGES, RECORD):
        os.replace(made / part, folder / part)
    return Overlay(**asdict(record), folder=folder)


def write_record(folder: Path, library: str, named: str, packages: dict[str, str]) -> None:
    """Say what a prepared folder holds; its packages lie in `site/`."""
    record = _Record(library=library, version=named, packages=packages, shared=_shared())
    replace_file(folder / RECORD, json.dumps(asdict(record), indent=1) + "\n")


def _resolve(requirement: str, scratch: Path) -> dict[str, str]:
    """What pip would install beside the running environment for a release: name -> version."""
    report, pins = scratch / "report.json", scratch / "constraints.txt"
    pins.write_text("".join(f"{name}=={number}\n" for name, number in _shared().items() if name in SHARED))
    _pip(("--dry-run", "--report", str(report), "-c", str(pins), requirement), requirement)
    resolved = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages = {str(item["metadata"]["name"]): str(item["metadata"]["version"]) for item in resolved}
    if not packages:  # it is what is installed: it is put into a folder of its own all the same
        library, _, number = requirement.partition("==")
        packages = {library: number}
    return packages


def _pip(arguments: Sequence[str], requirement: str) -> None:
    command = [sys.executable, *_PIP, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{requirement}: pip took more than {_PIP_SECONDS} seconds; look at the network") from error
    if done.returncode:
        raise InputError(f"{requirement}: {_why(done.stderr, requirement)}")


def _why(stderr: str, requirement: str) -> str:
    """What pip said, in one line."""
    from theworld.checkpoints.error_text import one_line

    if "No module named pip" in stderr:
        return "this environment has no pip; install it (python -m ensurepip), or prepare the folders yourself"
    lines = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    own = f"Could not find a version that satisfies the requirement {requirement}"
    missing = next((line for line in lines if line.startswith(own)), None)
    if missing is not None:
        known = re.search(r"\(from versions: (.*)\)", missing)
        newest = ", ".join(known[1].split(", ")[-5:]) if known else "none"
        return f"no such release that installs here; the newest on the index are: {newest}"
    return f"pip cannot install it: {one_line(lines[0] if lines else stderr.strip()[-300:] or 'it says nothing')}"


def _shared() -> dict[str, str]:
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in SHARED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(_Record)
