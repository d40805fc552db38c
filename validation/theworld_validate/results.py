"""What checks return: plain, frozen results that hold no torch objects.

In: nothing. Out: `Finding`, `CheckResult`, `Report`, their verdict and exit code, and their JSON form.
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = "theworld-validate/1"
TENSORS_FILE = "divergence.safetensors"  # beside a report: both tensors of the first difference


class Status(StrEnum):
    """How one check ended. Only `PASSED` passes."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class InputError(Exception):
    """Something the user gave cannot be used: one line that names it and the fix; exit code 2."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a line about a name that is not known: the known one that is nearest, if one is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Args:
        code: stable and machine-readable, such as "buffers.dtype".
        severity: "error" (fails the check) or "warning".
        location: the tensor, module, field or file.
        message: one line for a person.
        expected, actual: the two values, as JSON scalars; None where there is none.
        cause: the likely reason.
        remedy: how to mend it.
    """

    code: str
    severity: str = "error"
    location: str
    message: str
    expected: Any = None
    actual: Any = None
    cause: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check ended, what it measured and what it found.

    Args:
        reason: why it was skipped or is inconclusive; None for a plain pass.
        measurements: JSON scalars; bytes are integers named `*_bytes`, times floats named `*_seconds`.
    """

    id: str
    status: Status
    reason: str | None = None
    seconds: float
    measurements: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks of one command, and where they ran."""

    command: str
    started_at: str
    seconds: float
    environment: dict[str, Any]
    checks: tuple[CheckResult, ...]

    @property
    def verdict(self) -> Status:
        """The whole command's verdict."""
        return combine([check.status for check in self.checks])

    def to_json(self) -> dict[str, Any]:
        """The report as the published schema has it."""
        return {
            "schema": SCHEMA,
            "verdict": str(self.verdict),
            "command": self.command,
            "started_at": self.started_at,
            "seconds": self.seconds,
            "environment": self.environment,
            "checks": [{**_finite(asdict(check)), "status": str(check.status)} for check in self.checks],
        }


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def combine(statuses: Sequence[Status]) -> Status:
    """One verdict for many: the worst; and inconclusive where nothing at all passed."""
    for worst in (Status.ERROR, Status.FAILED, Status.INCONCLUSIVE):
        if worst in statuses:
            return worst
    return Status.PASSED if Status.PASSED in statuses else Status.INCONCLUSIVE


def exit_code(verdict: Status) -> int:
    """0 passed, 1 failed (or a check broke), 3 inconclusive; 2 is for input that cannot be used."""
    return {Status.PASSED: 0, Status.INCONCLUSIVE: 3}.get(verdict, 1)
