"""Reports as JSON: written from `Report`, and read back into one, or refused with the field that is wrong.

In: a report, or a file of this release's schema or of the first one's. Out: JSON, or a `Report`. Nothing behind this
module sees a dictionary.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.documents.reading import document_at, parse, read_json_object
from theworld_validate.results import SCHEMA, InputError, Measurements, Report, Scalar

FILE_NAME = "report.json"  # inside a report folder
FIRST_SCHEMA = "theworld-validate/1"
MAX_REPORT_BYTES = 64 * 2**20
MAX_REPORT_VALUES = 300_000  # the largest of a whole matrix of memory has 33,000
_MAX_BYTES = 1 << 63  # a figure of bytes is below it
_CHECK_ID = re.compile(r"[a-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
_FIXED_FILES = (FILE_NAME, "report.md", "report.html", "junit.xml")  # of the first schema, which did not list them


def report_to_json(report: Report) -> dict[str, Any]:
    """The report as the published schema has it; JSON has no NaN and no infinity, so they become text."""
    values = asdict(report)
    return {"schema": SCHEMA, "verdict": str(report.verdict), **_finite(values)}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_report(path: Path) -> Report:
    """Read a report: a JSON file, or the one in a folder.

    Raises:
        InputError: if it is none, a field is wrong, or its verdict is not its checks'.
    """
    from theworld.checkpoints.error_text import one_line

    file = document_at(path, FILE_NAME)
    values = read_json_object(file, max_bytes=MAX_REPORT_BYTES, max_values=MAX_REPORT_VALUES)
    return parse_report(values, source=one_line(file))


def parse_report(values: dict[str, Any], *, source: str) -> Report:
    """Check the values of a report's JSON, and make a `Report` of them.

    Args:
        source: the file, for errors.

    Raises:
        InputError: as `read_report`.
    """
    from theworld.checkpoints.error_text import shown_name

    schema, verdict = values.pop("schema", None), values.pop("verdict", None)
    if schema == FIRST_SCHEMA:
        values = _from_first(values)
    elif schema != SCHEMA:
        shown = shown_name(repr(schema))
        raise InputError(f"{source}: field schema is {shown}, and a report's is {SCHEMA!r}; make it with --output")
    report = parse(_adapter(), values, source=source)
    _check(report, source)
    if verdict != report.verdict:
        raise InputError(
            f"{source}: field verdict is {shown_name(repr(verdict))}, and its checks make it {str(report.verdict)!r}; "
            "make the report again"
        )
    return report


def _from_first(values: dict[str, Any]) -> dict[str, Any]:
    """What the first schema left out: it named neither files nor subjects, and had an empty environment for none."""
    return {**values, "environment": values.get("environment") or None, "files": list(_FIXED_FILES)}


def _check(report: Report, source: str) -> None:
    """What types do not say: ids and file names are safe and unique, bytes and seconds are what they are called."""
    seen: set[str] = set()
    for check in report.checks:
        if not _CHECK_ID.fullmatch(check.id) or len(check.id) > 200:
            raise InputError(f"{source}: check id {check.id[:80]!r} is not made of letters, digits, dots and dashes")
        if check.id in seen:
            raise InputError(f"{source}: two checks have the id {check.id}; make the report again")
        seen.add(check.id)
        for name, value in _figures(check.measurements):
            _check_unit(name, value, f"{source}: check {check.id}")
    for name in report.files:
        if not _FILE_NAME.fullmatch(name):
            raise InputError(f"{source}: field files names {name[:80]!r}, which is no plain file name")


def _figures(measurements: Measurements) -> Iterator[tuple[str, Scalar]]:
    """Every scalar of the measurements and of their rows, by its column's name."""
    for name, value in measurements.items():
        if not isinstance(value, (list, dict)):
            yield name, value
            continue
        for row in value if isinstance(value, list) else ():
            if isinstance(row, dict):
                yield from ((column, item) for column, item in row.items() if not isinstance(item, list))


def _check_unit(name: str, value: Scalar, where: str) -> None:
    if value is None or not name.endswith(("_bytes", "_seconds")):
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name.endswith("_bytes"):
        is_right = is_number and isinstance(value, int) and abs(value) < _MAX_BYTES
        rule = "bytes are integers"
    else:
        is_right, rule = is_number and value >= 0, "seconds are numbers from 0"
    if not is_right:
        from theworld.checkpoints.error_text import shown_name

        shown = f"{shown_name(name)} is {shown_name(repr(value))}"
        raise InputError(f"{where}: {shown}, and {rule}; make the report again")


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Report)


def report_schema() -> dict[str, Any]:
    """The published JSON Schema, generated from the types."""
    schema = _adapter().json_schema()
    own = {
        "schema": {"const": SCHEMA},
        "verdict": {
            "description": "The worst status of all checks; inconclusive where nothing passed.",
            "enum": ["passed", "failed", "inconclusive", "error"],
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Report of theworld-validate",
        "properties": {**own, **schema["properties"]},
        "required": ["schema", "verdict", *schema["required"]],
    }


def main() -> None:
    """Write the published schema beside this module."""
    from theworld_validate.documents.compact_json import compact_json

    path = Path(__file__).with_name("report.schema.json")
    path.write_text(compact_json(report_schema()), encoding="utf-8")


if __name__ == "__main__":
    main()
