"""A report as JSON text: what the folder and `--json` hold.

In: a report. Out: ASCII JSON that the reader takes, whatever text is in the report.
"""

from typing import TYPE_CHECKING, Any

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.documents.report import report_to_json

if TYPE_CHECKING:
    from theworld_validate.results import Report

_MAX_INTEGER_BITS = 10_000  # Python writes no integer of more than 4,300 digits


def render_json(report: "Report") -> str:
    """Render a report as JSON; half a surrogate pair, which JSON readers refuse, is written as its escape."""
    text = compact_json(_writable(report_to_json(report)))
    return text.replace("##[", "##\\u005b")  # which GitHub's runner obeys, wherever a line of a log has it


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(item) for item in value]
    if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
        return f"an integer of {value.bit_length():,} bits"
    return value
