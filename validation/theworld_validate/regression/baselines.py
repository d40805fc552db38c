"""Baselines on disk: a report, or a folder of reports, one for each environment; and the file of limits.

In: paths. Out: reports, checked; `Limits`. Bad files are one line each.
"""

import hashlib
import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from theworld_validate.regression.reports import Limits, environment_key
from theworld_validate.rendering.folder import write_files
from theworld_validate.results import SCHEMA, InputError

_REPORT = "report.json"


def read_report(path: Path) -> dict[str, Any]:
    """Read a report: a JSON file, or a report folder.

    Raises:
        InputError: if it is none.
    """
    file = path / _REPORT if path.is_dir() else path
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable as a report ({' '.join(str(error).split())})") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise InputError(f"{file}: not a report of theworld-validate; its schema must be {SCHEMA}")
    missing = [name for name in ("verdict", "command", "seconds", "environment", "checks") if name not in report]
    if missing:
        raise InputError(f"{file}: a report without {missing[0]}; make it again with --output")
    return report


def key_name(environment: dict[str, Any]) -> str:
    """The folder of an environment's baseline: what a person recognises, and a digest of the whole key."""
    key = environment_key(environment)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    device = key["gpu"] or "cpu"
    return "-".join([*device.lower().split(), f"torch{key['torch']}", f"transformers{key['transformers']}", digest])


def find_baseline(path: Path, environment: dict[str, Any]) -> Path | None:
    """Where the baseline of an environment is: the path itself if it is a report, otherwise a folder in it.

    Raises:
        InputError: if there is nothing at the path.
    """
    if path.is_file() or (path / _REPORT).is_file():
        return path
    if not path.exists():
        raise InputError(f"{path}: no such baseline; --update makes it from the current report")
    keyed = path / key_name(environment)
    return keyed if (keyed / _REPORT).is_file() else None


def write_baseline(path: Path, report: dict[str, Any]) -> Path:
    """Take a report as the baseline: in place of a single one, or in its environment's folder."""
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    if path.suffix == ".json":
        folder, name = path.parent, path.name
    elif (path / _REPORT).is_file():
        folder, name = path, _REPORT
    else:
        folder, name = path / key_name(report["environment"]), _REPORT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, {name: text})
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); name another baseline") from error
    return folder / name


def read_limits(path: Path | None) -> Limits:
    """Read a TOML file of limits, [memory] growth, [time] growth and min_seconds; the defaults if None.

    Raises:
        InputError: for a file that cannot be read, an unknown key, or a value that is no number from 0.
    """
    if path is None:
        return Limits()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"--budget {path}: not readable as TOML ({' '.join(str(error).split())})") from error
    known = {("memory", "growth"): "memory_growth", ("time", "growth"): "time_growth"}
    known[("time", "min_seconds")] = "min_seconds"
    assert set(known.values()) == {field.name for field in fields(Limits)}
    given = {}
    for section, entries in table.items():
        for name, value in entries.items() if isinstance(entries, dict) else [("", entries)]:
            if (section, name) not in known:
                names = ", ".join(".".join(key) for key in known)
                raise InputError(f"--budget {path}: unknown key {section}.{name}".rstrip(".") + f"; there are {names}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise InputError(f"--budget {path}: {section}.{name} must be a number from 0, got {value!r}")
            given[known[section, name]] = float(value)
    return Limits(**given)
