"""Which files of an output folder are the product's own: only these are ever replaced or removed.

In: a folder. Out: the names that its report.json answers for, or an `InputError` where a file there is somebody else's.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any

from theworld_validate.documents.reading import read_json_object
from theworld_validate.documents.report import FILE_NAME, FIRST_SCHEMA, MAX_REPORT_BYTES
from theworld_validate.rendering.figures import FIGURE_KINDS, figure_name
from theworld_validate.rendering.plain_text import line
from theworld_validate.results import TENSORS_FILE, InputError

FORMS = ("report.md", "report.html", "junit.xml")
_FAMILY = FIRST_SCHEMA.rpartition("/")[0] + "/"
_FIGURE = re.compile(rf"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.({'|'.join(FIGURE_KINDS)})\.svg")


def absolute(folder: Path) -> Path:
    """The folder, wherever the working directory goes later.

    Raises:
        InputError: if there is no working directory.
    """
    try:
        return folder.absolute()
    except OSError as error:
        raise InputError(f"--output {line(folder)}: the working directory is gone; give an absolute path") from error


def owned_names(folder: Path) -> frozenset[str]:
    """What the report.json of a folder answers for, itself included; nothing where there is none.

    Raises:
        InputError: if the report.json there is not of this product.
    """
    path = folder / FILE_NAME
    if not is_there(path):
        return frozenset()
    refusal = f"--output {line(folder)}: the {FILE_NAME} there is no report of theworld-validate; name another folder"
    try:
        values = read_json_object(path, max_bytes=MAX_REPORT_BYTES)
    except InputError as error:
        raise InputError(refusal) from error
    schema = values.get("schema")
    if not isinstance(schema, str) or not schema.startswith(_FAMILY):
        raise InputError(refusal)
    named = set(FORMS) if schema == FIRST_SCHEMA else set()
    named |= _texts(values.get("files"))
    for check in _objects(values.get("checks")):
        if isinstance(check_id := check.get("id"), str):
            named |= {figure_name(check_id, kind) for kind in FIGURE_KINDS}
        for measurements in _objects([check.get("measurements")]):
            named |= _texts([measurements.get("divergence_tensors_file")])
    # A report that somebody else wrote may name anything.
    return frozenset({FILE_NAME} | {name for name in named if _may_be_ours(name)})


def check_place(folder: Path, name: str, owned: frozenset[str]) -> None:
    """Refuse to write a file where something is that is not the product's own.

    Raises:
        InputError: with what is there.
    """
    path = folder / name
    if not is_there(path):
        return
    if stat.S_ISDIR(path.lstat().st_mode):
        raise InputError(f"--output {line(folder)}: {name} there is a folder; name another folder")
    if name not in owned:
        raise InputError(
            f"--output {line(folder)}: {name} is there, and no report of theworld-validate there names it; "
            "move it away, or name another folder"
        )


def is_there(path: Path) -> bool:
    """Whether something has this name, a broken link too."""
    return os.path.lexists(path)


def is_file(path: Path) -> bool:
    """Whether something that is no folder has this name."""
    return is_there(path) and not stat.S_ISDIR(path.lstat().st_mode)


def _may_be_ours(name: str) -> bool:
    return name in (*FORMS, TENSORS_FILE) or bool(_FIGURE.fullmatch(name))


def _texts(values: Any) -> set[str]:
    return {value for value in values if isinstance(value, str)} if isinstance(values, list) else set()


def _objects(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
