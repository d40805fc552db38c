"""The events of many decoded tokens, from those of a few: what a step asks for grows with the cache, and only so.

In: a call's events, where each decoded token's begin, and how many tokens are wanted. Out: the events of a call that
decodes so many. Two traced steps that are alike say what each later one is: the same requests, each larger by what it
grew from one to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from theworld_validate.memory.tracer import Event

NUM_TRACED = 4  # decoded tokens: one that ends the prompt's, two alike, and the last, which ends the call
_SMALL_BYTES = 1 << 20  # the allocator's small pool: what comes and goes in it within a step moves nothing else


@dataclass(frozen=True, slots=True)
class _Birth:
    step: int
    index: int


@dataclass(slots=True)
class DecodedCall:
    """A call's events.

    Args:
        events: in order.
        cached: numbers of the storages that the cache held from one token to the next.
    """

    events: list[Event]
    cached: set[int]


def lengthen(
    events: Sequence[Event], starts: Sequence[int], cached: set[int], *, num_more: int, first_number: int
) -> DecodedCall | None:
    """Put steps before the last one of a traced call.

    Args:
        starts: the index at which each decoded token's events begin: `NUM_TRACED` or more.
        cached: numbers of the storages that the cache held from one token to the next.
        num_more: how many steps come in between.
        first_number: of the storages that they make; below it all numbers are taken.

    Returns:
        None if the last steps are not alike, as where a sliding window is filling up: then each has to be traced.
    """
    bounds = [*starts, len(events)]
    steps = [events[start:end] for start, end in pairwise(bounds)]
    born_at = {
        event.storage: _Birth(number, index)
        for number, step in enumerate(steps)
        for index, event in enumerate(event for event in step if event.num_bytes > 0)
    }
    last = len(steps) - 1
    before, template, ending = (_related(steps[i], i, born_at) for i in (last - 2, last - 1, last))
    if before is None or template is None or ending is None or len(before) != len(template):
        return None
    shapes = [
        [(key, event.operator, event.num_bytes > 0) for key, event in step[: len(template)]]
        for step in (before, template, ending)
    ]
    if shapes[0] != shapes[1] or shapes[2] != shapes[1] or any(key.step < 0 for key, _ in template):
        return None
    growth = [new.num_bytes - old.num_bytes for (_, old), (_, new) in zip(before, template, strict=True)]
    sizes = {key: event.num_bytes for key, event in template if event.num_bytes > 0}
    grows = {key: by for (key, event), by in zip(template, growth, strict=True) if event.num_bytes > 0}
    passing = {key for key, event in template if event.num_bytes < 0 and key.step == 0}
    dull = {key for key in passing if not grows[key] and sizes[key] <= _SMALL_BYTES}
    is_cached = {key: event.storage in cached for key, event in template if event.num_bytes > 0}
    made = list(events[: bounds[last]])
    held = set(cached)
    numbers = {key: event.storage for key, event in template if event.num_bytes > 0}
    for step in range(1, num_more + 1):
        own = {key: first_number + i for i, key in enumerate(sizes)}
        first_number += len(sizes)
        for key, event in template:
            if key in dull:
                continue
            birth = _Birth(0, key.index)
            number = own[birth] if key.step == 0 else numbers[birth]
            size = sizes[birth] + (step - key.step) * grows[birth]
            made.append(_like(event, number, size))
        held |= {own[key] for key, held_over in is_cached.items() if held_over}
        numbers = own
    for key, event in ending:
        birth = _Birth(0, key.index)
        if key.step == 1:  # of the step before, which is now another
            size = sizes[birth] + num_more * grows[birth]
            made.append(_like(event, numbers[birth], size))
        elif key.step == 0 and birth in grows:
            made.append(_like(event, event.storage, abs(event.num_bytes) + num_more * grows[birth]))
        else:
            made.append(event)
    return DecodedCall(made, held)


def _like(event: Event, number: int, size: int) -> Event:
    """The same event of another storage, of another size."""
    signed = size if event.num_bytes > 0 else -size
    return Event(number, signed, event.phase, event.operator, event.module, event.stream)


def _related(step: Sequence[Event], number: int, born_at: dict[int, _Birth]) -> list[tuple[_Birth, Event]] | None:
    """Each event with the storage it is about: how many steps before it was made, and the how-manieth there."""
    related = []
    for event in step:
        birth = born_at.get(event.storage)
        if birth is None:
            related.append((_Birth(-1, event.storage), event))
        elif number - birth.step > 1:
            return None
        else:
            related.append((_Birth(number - birth.step, birth.index), event))
    return related
