"""Baselines on disk: a report, or a folder of reports, one for each environment.

In: paths and reports. Out: where a baseline is, or is written. Only a report that passed can be one, and nothing is
written outside of the place that the user named.
"""

from pathlib import Path

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.documents.report import FILE_NAME, report_to_json
from theworld_validate.documents.writing import write_file
from theworld_validate.regression.keys import key_name
from theworld_validate.results import InputError, Report, Status


def why_no_baseline(report: Report) -> str | None:
    """Why a report cannot be held against; None if it can."""
    if report.verdict is not Status.PASSED:
        return f"it is {report.verdict}, and only a report that passed can be a baseline"
    if report.environment is None:
        return "it does not say where it was made"
    return None


def find_baseline(path: Path, report: Report) -> Path | None:
    """Where the baseline for a report is: the path itself if it is a report, otherwise a folder in it.

    Returns:
        None if a folder of baselines has none of the report's environment.

    Raises:
        InputError: if there is nothing at the path, or nothing that can hold a baseline.
    """
    from theworld.checkpoints.error_text import one_line

    try:
        if path.is_file() or (path / FILE_NAME).exists():
            return path
        if not path.exists():
            raise InputError(f"{one_line(path)}: no such baseline; --update makes it from the current report")
        if not path.is_dir():
            raise InputError(f"{one_line(path)}: neither a report nor a folder; name a baseline")
        if report.environment is None:
            return None
        keyed = path / key_name(report.environment)
        return keyed if (keyed / FILE_NAME).exists() else None
    except OSError as error:
        raise InputError(f"{one_line(path)}: not readable ({error.strerror}); name a baseline") from error


def is_there(path: Path) -> bool:
    """Whether there is anything at a path.

    Raises:
        InputError: if nobody can tell.
    """
    from theworld.checkpoints.error_text import one_line

    try:
        return path.exists() or path.is_symlink()
    except OSError as error:
        raise InputError(f"{one_line(path)}: not readable ({error.strerror}); name another place") from error


def write_baseline(path: Path, report: Report, *, replaces: Report | None = None) -> Path:
    """Take a report as the baseline: in place of a single one, or in its environment's folder.

    Args:
        replaces: the baseline that is there.

    Raises:
        InputError: if the report cannot be a baseline, or not in that one's place; nothing is written then.
    """
    from theworld.checkpoints.error_text import one_line, shown_name

    if (reason := why_no_baseline(report)) is not None:
        raise InputError(f"--update: the current report is no baseline: {reason}")
    if replaces is not None and replaces.command != report.command:
        raise InputError(
            f"--update: {one_line(path)} is of {shown_name(repr(replaces.command))}, "
            f"the current report of {shown_name(repr(report.command))}; "
            "name another baseline"
        )
    assert report.environment is not None
    if path.suffix == ".json" or path.is_file():
        file = path
    elif (path / FILE_NAME).exists():
        file = path / FILE_NAME
    else:
        file = path / key_name(report.environment) / FILE_NAME
        if file.parent.is_symlink() and file.parent.resolve().parent != path.resolve():
            raise InputError(f"--update: {one_line(file.parent)} is a link to another place; remove it")
    write_file(file, compact_json(report_to_json(report)), option="--update")
    return file
