"""The report folder: report.json, the source of truth, and the forms rendered from it.

In: a report and a folder. Out: its files. report.json is written first, and then each form by itself: one that fails
costs that form. What an earlier report there named and this one does not is removed; nothing else is touched.
"""

import errno
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from theworld.checkpoints.written_files import check_writable, replace_file
from theworld_validate.documents.report import FILE_NAME, read_report
from theworld_validate.rendering.figures import plan_figures
from theworld_validate.rendering.json_text import render_json
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.ownership import FORMS, absolute, check_place, is_file, owned_names
from theworld_validate.rendering.page import render_html
from theworld_validate.rendering.plain_text import line, prose
from theworld_validate.results import TENSORS_FILE, InputError, Report

Form = Callable[[], str]


def check_output_folder(folder: Path) -> Path:
    """Refuse, before anything is run, a place where no report can be written; none is made.

    Returns:
        The folder's absolute path, which holds when the working directory changes.

    Raises:
        InputError: if `folder` is a file, cannot be made or written to, or holds what a report would replace and
            what is not of an earlier report there.
    """
    folder = absolute(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder")
        check_writable(folder)
        owned = owned_names(folder)
        for name in (FILE_NAME, *FORMS, TENSORS_FILE):
            check_place(folder, name, owned)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
    return folder


def write_report_folder(report: Report, folder: Path) -> tuple[Report, list[str]]:
    """Write report.json, and every form that can be written.

    Returns:
        The report as it was written, with the names of its files; and a line for each form that failed.

    Raises:
        InputError: if report.json itself cannot be written; what was there before is whole.
    """
    return _write(report, absolute(folder), has_tensors=_names_tensors(report))


def _write(report: Report, folder: Path, *, has_tensors: bool) -> tuple[Report, list[str]]:
    """As `write_report_folder`; `has_tensors` if the file of tensors that is there is this report's."""
    forms, errors = _plan_forms(report)
    try:
        folder.mkdir(parents=True, exist_ok=True)  # again: a subject may have removed it
        owned = owned_names(folder)
        check_place(folder, FILE_NAME, owned)
        forms, refused = _refuse_taken(forms, folder, owned)
        earlier = [name for name in sorted(owned) if is_file(folder / name)]
        # A file is named before it is written: if this process is killed, the next one knows whose it is.
        tensors = [TENSORS_FILE] if has_tensors and is_file(folder / TENSORS_FILE) else []
        report = replace(report, files=_unique([FILE_NAME, *forms, *earlier, *tensors]))
        replace_file(folder / FILE_NAME, render_json(report))
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
    return _write_forms(report, folder, forms, [*errors, *refused], kept=tensors)


def render_forms(report: Report, folder: Path) -> tuple[Report, list[str]]:
    """Write every form of a report that was read; its own report.json stays as it is, if it can.

    Args:
        folder: where its report.json is, or another one, which then gets a report.json too.

    Returns, raises:
        As `write_report_folder`.
    """
    folder = check_output_folder(folder)
    forms, errors = _plan_forms(report)
    is_its_own = _holds(folder, report)
    if is_its_own and not errors and forms.keys() <= owned_names(folder):
        written, errors = _write_forms(report, folder, forms, [], kept=[TENSORS_FILE], rewrite=False)
        if not errors:
            return written, []
    return _write(report, folder, has_tensors=is_its_own and _names_tensors(report))


def _holds(folder: Path, report: Report) -> bool:
    try:
        return read_report(folder) == report
    except InputError:
        return False


def _plan_forms(report: Report) -> tuple[dict[str, Form], list[str]]:
    """What renders each form, by its file's name."""
    forms: dict[str, Form] = {
        "report.md": partial(render_markdown, report),
        "report.html": partial(render_html, report),
        "junit.xml": partial(render_junit, report),
    }
    try:
        return {**forms, **plan_figures(report)}, []
    except Exception as error:  # whatever a report holds, its other forms are written
        return forms, [f"figures: not drawn ({type(error).__name__}: {prose(error)})"]


def _refuse_taken(forms: dict[str, Form], folder: Path, owned: frozenset[str]) -> tuple[dict[str, Form], list[str]]:
    """The forms whose places are free or the product's own; a line for each of the others."""
    free, refused = {}, []
    for name, form in forms.items():
        try:
            check_place(folder, name, owned)
        except InputError as error:
            refused.append(str(error))
        else:
            free[name] = form
    return free, refused


def _write_forms(
    report: Report, folder: Path, forms: dict[str, Form], errors: list[str], *, kept: list[str], rewrite: bool = True
) -> tuple[Report, list[str]]:
    """Remove what an earlier run wrote, write each form, and then name what is there in report.json."""
    errors = [*errors, *_remove(folder, [name for name in report.files if name not in (FILE_NAME, *kept)])]
    for name, render in forms.items():
        try:
            replace_file(folder / name, render())
        except OSError as error:
            errors.append(f"{line(folder / name)}: not written ({_reason(error)}); {FILE_NAME} is whole")
        except Exception as error:  # a form that fails costs that form
            reason = f"{type(error).__name__}: {prose(error)}"
            errors.append(f"{line(folder / name)}: not rendered ({reason}); {FILE_NAME} is whole")
    there = [name for name in _unique([FILE_NAME, *forms, *report.files]) if is_file(folder / name)]
    if rewrite and set(there) != set(report.files):
        report = replace(report, files=tuple(there))
        try:
            replace_file(folder / FILE_NAME, render_json(report))
        except OSError as error:
            errors.append(f"{line(folder / FILE_NAME)}: its list of files is not up to date ({_reason(error)})")
    return report, errors


def _remove(folder: Path, names: Iterable[str]) -> list[str]:
    """Remove files; a line for each that stays."""
    errors = []
    for name in names:
        try:
            if is_file(folder / name):
                (folder / name).unlink()
        except OSError as error:
            errors.append(f"{line(folder / name)}: of an earlier report, not removed ({_reason(error)})")
    return errors


def _names_tensors(report: Report) -> bool:
    """Whether a check of this report wrote the file of tensors beside it."""
    named = [check.measurements.get("divergence_tensors_file") for check in report.checks]
    return TENSORS_FILE in named or TENSORS_FILE in report.files


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _reason(error: Exception) -> str:
    return line((isinstance(error, OSError) and error.strerror) or error)


def _unwritable(folder: Path, error: Exception) -> InputError:
    return InputError(f"--output {line(folder)}: cannot write there ({_reason(error)}); name another folder")
