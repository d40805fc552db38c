"""What a worker says to the judge: messages as lines of JSON, each checked when it is read.

In: typed values on one side. Out: the same on the other, or a `ValueError`; nothing that a worker sends is executed.
"""

import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from theworld_validate.documents.observations import Fingerprint
from theworld_validate.results import CheckResult, Environment, Measurements

_SURROGATE = re.compile("[\ud800-\udfff]")
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the worker does next, for the progress bar and for saying where it ended."""

    __pydantic_config__ = _STRICT

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """How many steps are still to come."""

    __pydantic_config__ = _STRICT

    num_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of what was observed; `run` tells the first run from the control's second one."""

    __pydantic_config__ = _STRICT

    run: str = "first"
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A finished check."""

    __pydantic_config__ = _STRICT

    check: CheckResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Values that the judge asked for, by name."""

    __pydantic_config__ = _STRICT

    values: Measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where workers run, with the devices that they see."""

    __pydantic_config__ = _STRICT

    environment: Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The work raised, and there is nothing more to come.

    Args:
        kind: "input" for what the user gave, "subject" for the subject's own code, "harness" for the rest.
        error: one line; for "input" as the user shall read it.
        place: the file and line that raised; None where it does not matter.
        code: that line's source.
        traceback: whole, for --debug.
    """

    __pydantic_config__ = _STRICT

    kind: str
    error: str
    place: str | None = None
    code: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Everything was delivered."""

    __pydantic_config__ = _STRICT


Message = Step | Expect | Part | Checked | Answer | Where | Raised | Done
_TYPES: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Step, Expect, Part, Checked, Answer, Where, Raised, Done)
}


def encode(message: Message) -> bytes:
    """One message as JSON; half a surrogate pair, which JSON readers refuse, becomes its escape as text."""
    text = json.dumps([type(message).__name__, asdict(message)], default=_refuse, ensure_ascii=False)
    return _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text).encode()


def _refuse(value: Any) -> Any:
    raise TypeError(f"a worker cannot send a {type(value).__name__}")


@cache
def _adapter(kind: type[Message]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def decode(data: bytes) -> Message:
    """One message from JSON.

    Raises:
        ValueError: if it is none.
    """
    name, values = json.loads(data)
    return _adapter(_TYPES[name]).validate_json(json.dumps(values))
