"""The harness from Python: the checks that people build on, with defaults for everything but the subjects.

In: subjects, or files. Out: check results, or a fingerprint file. Every subject is loaded in a process of its own, so
nothing that it does reaches the caller.
"""

from collections.abc import Sequence

from theworld_validate.documents.fingerprint import FingerprintFile
from theworld_validate.results import CheckResult
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.pool import DEFAULT_TIMEOUT_SECONDS
from theworld_validate.workers.run import Run, check_in_worker


def check_parity(
    reference: Subject,
    candidate: Subject,
    *,
    probes: Sequence[str] = (),
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> list[CheckResult]:
    """Compare two subjects, bit for bit, on everything observable.

    Args:
        reference: what is taken as right.
        candidate: from the same checkpoint, in the same dtype, on the same device.
        probes: names of probes; all if none is named.
        timeout_seconds: for each side.

    Returns:
        The checks, the one with the likeliest root cause first. `results.combine` makes one verdict of them.

    Raises:
        InputError: if a checkpoint or a target cannot be used.
    """
    from theworld_validate.parity.check import check_parity as check

    return list(check(reference, candidate, run=Run(timeout_seconds=timeout_seconds), probe_names=probes))


def take_fingerprint(
    subject: Subject, *, sketch: bool = False, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> FingerprintFile:
    """Observe everything about one subject.

    Args:
        sketch: also sketch every tensor, so that `compare_fingerprints` can tell how far two are apart.
        timeout_seconds: for the subject.

    Raises:
        InputError: if it cannot be loaded, or does not deliver all that it is asked.
    """
    from theworld_validate.parity.take_file import take_file

    return take_file(subject, Run(timeout_seconds=timeout_seconds), sketch=sketch)


def compare_fingerprints(
    reference: FingerprintFile,
    candidate: FingerprintFile,
    *,
    accept_rounding: bool = False,
    truth: FingerprintFile | None = None,
) -> list[CheckResult]:
    """Compare two fingerprints that were made apart: what differs around them first, then what differs in them.

    Args:
        accept_rounding: have the referee judge numbers that are not equal bit for bit; all three then need sketches.
        truth: the reference in a wider dtype, which it judges by.
    """
    from theworld_validate.parity.diff_files import compare_files

    return list(compare_files(reference, candidate, accept_rounding=accept_rounding, truth=truth))


def check_files(
    checkpoint: str, *, verify: bool = False, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> list[CheckResult]:
    """Audit a checkpoint's files without loading them.

    Args:
        checkpoint: a local folder, or a hub id that is in the cache.
        verify: also hash the files of a hub cache, whose names are checksums.

    Raises:
        InputError: if a file cannot be read at all.
    """
    from theworld_validate.suite import audit_files

    run = Run(timeout_seconds=timeout_seconds)
    return list(check_in_worker(run, audit_files(checkpoint, verify=verify)))
