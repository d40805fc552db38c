"""A checkpoint's files as a check of its own: keys against parameters from headers alone, then every value once.

In: a checkpoint. Out: one check for keys, one for values, and one for a hub cache's checksums if asked. Nothing is
loaded into a model.
"""

import time
from collections.abc import Callable, Iterator

from theworld_validate.compare.file_problems import file_findings
from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.files import fingerprint_files, fingerprint_values, verify_checksums
from theworld_validate.results import CheckResult, Status


def check_files(
    checkpoint: str, *, verify: bool = False, progress: Callable[[str], None] = lambda step: None
) -> Iterator[CheckResult]:
    """Audit a checkpoint's files.

    Args:
        checkpoint: a local folder, or a hub id that is in the cache.
        verify: also hash the files of a hub cache, whose names are checksums.

    Raises:
        InputError: if a file cannot be read at all.
    """
    parts = [("keys", "keys against parameters", fingerprint_files), ("values", "values", fingerprint_values)]
    if verify:
        parts.append(("checksums", "checksums", verify_checksums))
    for name, step, observe in parts:
        progress(step)
        started = time.perf_counter()
        yield _judge(f"files.{name}", observe(checkpoint), started)


def _judge(check_id: str, observed: Section, started: float) -> CheckResult:
    findings = file_findings(observed)
    summary = observed.get("(summary)", {})
    status, reason = Status.PASSED, None
    if any(finding.severity == "error" for finding in findings):
        status = Status.FAILED
    elif not any(summary.values()):
        status, reason = Status.INCONCLUSIVE, "nothing was compared"
    return CheckResult(
        id=check_id,
        status=status,
        reason=reason,
        seconds=time.perf_counter() - started,
        measurements={name: value for name, value in summary.items() if not isinstance(value, (list, dict))},
        findings=tuple(findings),
    )
