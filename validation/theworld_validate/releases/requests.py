"""What the judge asks of an observing process, and what that answers: JSON files of these types.

In: a request, written by the judge. Out: an answer, written by the observing side; each is read strictly.
"""

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from theworld.checkpoints.written_files import replace_file
from theworld_validate.documents.reading import parse, read_json_object

_MAX_BYTES = 16 * 2**20
_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one process is to do: observe a model, or (with `saved`) load what other releases saved.

    Args:
        target: "module:name" of what loads the model.
        checkpoint: a local folder, or a hub id that is in the cache.
        probes: the file of probes, the same for every release.
        fingerprint: where to write what is seen.
        answer: where to write the answer.
        fresh: where to save a freshly built model of the target's class; None where that is not asked.
        config: the folder whose config.json the fresh model is built from.
        saved: release -> the folder that it saved into; None to observe.
        narrow: the same weights with a window that is shorter than an image; None where the family has none.
        narrow_probes: what that one is asked.
        threads: of torch; None leaves it to torch.
        sketch: also sketch what is observed of probes and gradients.
        truth: only run these probes in `dtype`, with sketches ("gradients" is one); None to observe everything.
    """

    __pydantic_config__ = _STRICT

    target: str
    checkpoint: str
    dtype: str
    device: str = "cpu"
    attn: str | None = None
    seed: int = 0
    probes: str
    fingerprint: str
    answer: str
    fresh: str | None = None
    config: str | None = None
    saved: dict[str, str] | None = None
    narrow: str | None = None
    narrow_probes: str | None = None
    threads: int | None = None
    sketch: bool = False
    truth: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What became of a checkpoint's keys when it was loaded.

    Args:
        num_keys: how many tensors the model has.
        missing: parameters that no key of the files was for, as the library says.
        unexpected: keys that the model has no place for.
        mismatched: keys of another shape than the model's.
        random: tensors that differ between two loads with different seeds: whatever the library says, no file filled
            them.
        drawn_anew: of those, parameters that the files hold under the same name: they were read, and then drawn anew.
        unset_buffers: of those, buffers: nothing set them after loading.
    """

    __pydantic_config__ = _STRICT

    num_keys: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    drawn_anew: tuple[str, ...] = ()
    unset_buffers: tuple[str, ...] = ()

    @property
    def is_safe(self) -> bool:
        """Whether every tensor of the model came from the files."""
        return not (self.missing or self.mismatched or self.random)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What became of the files that another release saved: what loading said, or what it raised."""

    __pydantic_config__ = _STRICT

    loading: Loading | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a process has to say beside the fingerprint.

    Args:
        loading: of the checkpoint; None where it failed.
        saved: why the fresh model could not be saved; None where it was, or was not asked.
        loads: release -> what became of its files.
        failure: what raised, in one line; None where all was done.
    """

    __pydantic_config__ = _STRICT

    loading: Loading | None = None
    saved: str | None = None
    loads: dict[str, Exchange] = field(default_factory=dict)
    failure: str | None = None


def write_request(request: Request, path: Path) -> None:
    """Write a request's file."""
    replace_file(path, json.dumps(asdict(request), indent=1) + "\n")


def read_request(path: Path) -> Request:
    """Read a request; an `InputError` if it is none."""
    return parse(_adapter(Request), read_json_object(path, max_bytes=_MAX_BYTES), source=str(path))


def read_answer(path: Path) -> Answer:
    """Read an answer; an `InputError` if it is none."""
    return parse(_adapter(Answer), read_json_object(path, max_bytes=_MAX_BYTES), source=str(path))


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
