"""theworld-validate as a library: load, observe, compare, read and write reports. Everything is imported on first use.

from theworld_validate import Subject, check_parity

reference = Subject(target="transformers:Gemma3ForConditionalGeneration", checkpoint="google/gemma-3-4b-it")
candidate = Subject(target="my_package:MyModel", checkpoint="google/gemma-3-4b-it")
for check in check_parity(reference, candidate):
    print(check.id, check.status)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theworld_validate.api import check_files, check_parity, compare_fingerprints, take_fingerprint
    from theworld_validate.documents.fingerprint import FingerprintFile, read_fingerprint, write_fingerprint
    from theworld_validate.documents.report import read_report, report_to_json
    from theworld_validate.results import CheckResult, Finding, InputError, Report, Status
    from theworld_validate.subjects.subject import Subject

__all__ = [
    "CheckResult",
    "Finding",
    "FingerprintFile",
    "InputError",
    "Report",
    "Status",
    "Subject",
    "check_files",
    "check_parity",
    "compare_fingerprints",
    "read_fingerprint",
    "read_report",
    "report_to_json",
    "take_fingerprint",
    "write_fingerprint",
]

_HOME_OF = {
    "Subject": "theworld_validate.subjects.subject",
    **dict.fromkeys(
        ("check_files", "check_parity", "compare_fingerprints", "take_fingerprint"), "theworld_validate.api"
    ),
    **dict.fromkeys(
        ("FingerprintFile", "read_fingerprint", "write_fingerprint"), "theworld_validate.documents.fingerprint"
    ),
    **dict.fromkeys(("read_report", "report_to_json"), "theworld_validate.documents.report"),
    **dict.fromkeys(("CheckResult", "Finding", "InputError", "Report", "Status"), "theworld_validate.results"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'theworld_validate' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
