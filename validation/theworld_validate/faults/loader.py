"""Loaders for the self-test: a subject with a fault in it, and the ways of loading that are right.

In: a subject, and the name of a fault or of a right way. Out: what a worker loads as any other subject.
"""

from dataclasses import dataclass
from typing import Any

from theworld_validate.results import SubjectRecord
from theworld_validate.subjects.subject import Subject

_ENTERED: list[Any] = []  # contexts that a fault holds open until its worker ends


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultySubject:
    """A subject with one fault of the catalogue in it."""

    fault: str
    subject: Subject

    @property
    def seed(self) -> int:
        """Of probes and sampling."""
        return self.subject.seed

    @property
    def probes(self) -> str | None:
        """A user's own."""
        return self.subject.probes

    @property
    def checkpoint(self) -> str:
        """A folder or a hub id."""
        return self.subject.checkpoint

    @property
    def device(self) -> str:
        """Where it is loaded."""
        return self.subject.device

    def load(self) -> Any:
        """Load the subject with the fault in it; what the fault holds open stays so until the process ends."""
        from theworld_validate.faults.catalogue import CATALOGUE, FAMILY_FAULTS

        fault = (CATALOGUE | FAMILY_FAULTS)[self.fault]
        context = fault.around()
        context.__enter__()
        _ENTERED.append(context)
        return fault.load_spoilt(self.subject)

    def record(self, role: str) -> SubjectRecord:
        """What a report says of it."""
        return self.subject.record(role)
