"""What is asked about a run, and what is said of it.

In: nothing. Out: plain, frozen values without torch objects, which a worker sends to the judge as JSON.
"""

from dataclasses import dataclass, replace

from theworld_validate.memory.allocator import DEFAULT_SETTINGS, AllocatorSettings
from theworld_validate.memory.cells import TRAIN, Cell
from theworld_validate.memory.lengths import Lengths
from theworld_validate.memory.run_replay import RunReplayed

_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
BUCKET_TOKENS = 128
_GC_THRESHOLD = 0.8
_MAX_SPLIT_BYTES = 128 << 20
AS_ASKED, CHECKPOINTING = "as asked", "gradient checkpointing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuestion:
    """What is asked about every cell.

    Args:
        lengths: of the run's steps; a cell's own `text_tokens` says nothing.
        settings: of the allocator.
        capacity_bytes: what may be reserved; None for no limit.
    """

    lengths: Lengths
    settings: AllocatorSettings = DEFAULT_SETTINGS
    capacity_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVariant:
    """A run as it was asked for, or with one thing changed.

    Args:
        title: what is changed, for people.
        lengths: text tokens of each step.
        settings: of the allocator.
        seeks_least: whether the least memory is looked for too.
    """

    title: str
    lengths: tuple[int, ...]
    settings: AllocatorSettings
    seeks_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What becomes of a variant.

    Args:
        title: of the variant.
        free: without a limit.
        limited: in the capacity that was asked about; None if there was none.
        least_bytes: the least memory that it completes in; None where it was not looked for.
    """

    __pydantic_config__ = _STRICT

    title: str
    free: RunReplayed
    limited: RunReplayed | None = None
    least_bytes: int | None = None

    @property
    def completes(self) -> bool | None:
        """Whether it completes in the capacity; None if there was none."""
        return None if self.limited is None else self.limited.completes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPrediction:
    """What is said of one cell.

    Args:
        cell: that was asked about, with the longest of the lengths.
        outcomes: the run as asked first, then with one thing changed each; empty after an error.
        num_traced: lengths that were traced; the others were derived.
        host_bytes: the most that the longest step keeps in the host's memory; None where nothing is offloaded.
        error: what was raised; None if nothing.
    """

    cell: Cell
    outcomes: tuple[RunOutcome, ...] = ()
    num_traced: int = 0
    host_bytes: int | None = None
    error: str | None = None


def variants_of(question: RunQuestion) -> tuple[RunVariant, ...]:
    """The run as asked, and with one thing changed: what may help against memory that is held and unused."""
    lengths, settings = question.lengths.values, question.settings
    asked = RunVariant(title=AS_ASKED, lengths=lengths, settings=settings, seeks_least=True)
    variants = [asked]
    if not settings.expandable_segments:
        changed = replace(settings, expandable_segments=True)
        variants.append(replace(asked, title="expandable_segments:True", settings=changed))
    asked = replace(asked, seeks_least=False)
    # Without a limit nothing is given back: what is never split is reserved anew for each length.
    if settings.max_split_size_bytes is None and question.capacity_bytes is not None:
        changed = replace(settings, max_split_size_bytes=_MAX_SPLIT_BYTES)
        variants.append(replace(asked, title=f"max_split_size_mb:{_MAX_SPLIT_BYTES >> 20}", settings=changed))
    if settings.garbage_collection_threshold is None and question.capacity_bytes is not None:
        changed = replace(settings, garbage_collection_threshold=_GC_THRESHOLD)
        variants.append(replace(asked, title=f"garbage_collection_threshold:{_GC_THRESHOLD:g}", settings=changed))
    longest = max(lengths)
    bucketed = tuple(min(-(-length // BUCKET_TOKENS) * BUCKET_TOKENS, longest) for length in lengths)
    other_lengths = {
        f"lengths padded to multiples of {BUCKET_TOKENS}": bucketed,
        "the longest first": tuple(sorted(lengths, reverse=True)),
        "all padded to the longest": (longest,) * len(lengths),
    }
    variants += [replace(asked, title=title, lengths=values) for title, values in other_lengths.items()]
    return tuple(one for i, one in enumerate(variants) if i == 0 or one.lengths != lengths or one.settings != settings)


def with_checkpointing(cell: Cell) -> Cell | None:
    """The cell with the lever that changes the step itself; None where it is switched on already."""
    return replace(cell, checkpointing=True) if cell.task == TRAIN and not cell.checkpointing else None
