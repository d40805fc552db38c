"""What a comparison loads a side with.

In: nothing. Out: the protocol that a `Subject`, and one with a fault in it, keep.
"""

from typing import Any, Protocol

from theworld_validate.results import SubjectRecord


class Loader(Protocol):
    """What loads one side: a `Subject`, or one with a fault in it."""

    @property
    def seed(self) -> int:
        """Of probes and sampling."""
        ...

    @property
    def probes(self) -> str | None:
        """A user's own, as "module:function"."""
        ...

    @property
    def checkpoint(self) -> str:
        """A folder or a hub id."""
        ...

    @property
    def device(self) -> str:
        """Where it is loaded."""
        ...

    def load(self) -> Any:
        """Load the model."""
        ...

    def record(self, role: str) -> SubjectRecord:
        """What a report says of it."""
        ...
