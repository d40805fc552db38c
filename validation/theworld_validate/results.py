"""What checks return and a report holds: plain, frozen values without torch objects.

In: nothing. Out: `Finding`, `CheckResult`, `Report`, their verdict and exit code. How they become JSON and come back
is in `documents.report`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MaxLen

SCHEMA = "theworld-validate/2"
TENSORS_FILE = "divergence.safetensors"  # beside a report: both tensors of the first difference

Scalar = bool | int | float | str | None
Row = dict[str, Scalar | list[Scalar]]  # a list only where a row is a curve to be drawn
Measurement = Scalar | list[Row] | list[Scalar] | dict[str, list[Scalar]]
Measurements = dict[str, Measurement]

Seconds = Annotated[float, Ge(0)]
Severity = Literal["error", "warning"]
Name = Annotated[str, MaxLen(300)]

# pydantic's own name: how `documents.report` reads these classes. Nothing is converted, nothing is unknown.
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


class Status(StrEnum):
    """How one check ended. Only `PASSED` passes."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class InputError(Exception):
    """Something the user gave cannot be used: one line that names it and the fix; exit code 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Args:
        code: stable and machine-readable, such as "buffers.dtype".
        severity: "error" (fails the check) or "warning".
        location: the tensor, module, field or file.
        message: one line for a person.
        expected, actual: the two values; None where there is none.
        cause: the likely reason; None where `explained_by` names what this follows from.
        remedy: how to mend it; None where `explained_by` is set.
        section: of a fingerprint, such as "buffers"; None where it is about none.
        field: of the observation that differs, such as "dtype".
        explained_by: the `key` of the finding that this one follows from; None for a root.
    """

    __pydantic_config__ = _STRICT

    code: str
    severity: Severity = "error"
    location: str
    message: str
    expected: Scalar = None
    actual: Scalar = None
    cause: str | None = None
    remedy: str | None = None
    section: str | None = None
    field: str | None = None
    explained_by: str | None = None

    @property
    def key(self) -> str:
        """What `explained_by` of another finding says to name this one."""
        return f"{self.code}@{self.location}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check ended, what it measured and what it found.

    Args:
        reason: why it was skipped or is inconclusive; None for a plain pass.
        measurements: bytes are integers named `*_bytes`, times floats named `*_seconds`; None for unmeasured. A list
            of rows is a table; its rows may have different columns.
    """

    __pydantic_config__ = _STRICT

    id: str
    status: Status
    reason: str | None = None
    seconds: Seconds
    measurements: Measurements = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a command ran; None for what is not there."""

    __pydantic_config__ = _STRICT

    python: Name
    platform: Name | None = None
    machine: Name | None = None
    processor: Name | None = None
    cpu_count: Annotated[int, Ge(1)] | None = None
    torch_threads: Annotated[int, Ge(1)] | None = None
    packages: dict[Name, Name | None] = field(default_factory=dict)
    cuda: Name | None = None
    gpu: Name | None = None
    gpu_count: Annotated[int, Ge(0)] = 0
    calibration_seconds: Annotated[float, Gt(0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRecord:
    """What a report is about: one model, and how it was loaded.

    Args:
        role: "reference", "candidate", "control", "truth" or "model".
        target: "module:name" of what loaded it.
        checkpoint_digest: of its safetensors files; None where they were not read.
        printed: what it wrote to stdout and stderr, cut at a stated length; None for nothing.
        printed_bytes: how much that was before it was cut.
    """

    __pydantic_config__ = _STRICT

    role: str
    target: str
    checkpoint: str
    checkpoint_digest: str | None = None
    cosmos: str | None = None
    dtype: str
    device: str
    attn: str | None = None
    seed: int = 0
    printed: str | None = None
    printed_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What must come back before anything is compared: every section, and every probe in the sections of probes."""

    __pydantic_config__ = _STRICT

    sections: tuple[str, ...]
    probes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks of one command, what they were about and where they ran.

    Args:
        command: the command's name, such as "theworld-validate parity".
        command_line: as it was typed.
        started_at: UTC, ISO 8601, to the second.
        environment: None where the input could not be used.
        subjects: the models that were loaded.
        plan: what was to be compared, where something was.
        files: names of the files that were written beside this report; only these are replaced or removed later.
    """

    __pydantic_config__ = _STRICT

    command: str
    command_line: str | None = None
    started_at: str
    seconds: Seconds
    environment: Environment | None = None
    subjects: tuple[SubjectRecord, ...] = ()
    plan: Plan | None = None
    checks: tuple[CheckResult, ...]
    files: tuple[str, ...] = ()

    @property
    def verdict(self) -> Status:
        """The whole command's verdict."""
        return combine([check.status for check in self.checks])


def combine(statuses: Sequence[Status]) -> Status:
    """One verdict for many: the worst; and inconclusive where nothing at all passed."""
    for worst in (Status.ERROR, Status.FAILED, Status.INCONCLUSIVE):
        if worst in statuses:
            return worst
    return Status.PASSED if Status.PASSED in statuses else Status.INCONCLUSIVE


INPUT_ERROR_CODE = 2
INTERNAL_ERROR_CODE = 4
INTERRUPTED_CODE = 130


def exit_code(verdict: Status) -> int:
    """0 passed, 1 failed, 3 inconclusive, 4 a check of the harness broke; 2 is for input that cannot be used."""
    return {
        Status.PASSED: 0,
        Status.FAILED: 1,
        Status.ERROR: INTERNAL_ERROR_CODE,
    }.get(verdict, 3)
