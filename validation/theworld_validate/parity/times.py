"""How long what each check compares took to observe: the seconds of the steps that gave it, on both sides.

In: what workers delivered: parts, each with an answer of what making it took. Out: seconds by section and by probe.
Starting a process, importing and loading belong to no check.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from theworld_validate.documents.observations import PROBE_SECTIONS, Fingerprint, probe_of
from theworld_validate.workers.messages import Answer, Message, Part
from theworld_validate.workers.pool import Outcome

PART_SECONDS = "part_seconds"  # what a worker answers after each part


@dataclass(frozen=True, slots=True)
class Observed:
    """What a check compares: a section, or one probe's; or the reference's second run."""

    kind: str  # "section", "probe" or "run"
    name: str


def time_part(part: Part, seconds: float) -> Iterator[Message]:
    """A part, and what making it took."""
    yield part
    yield Answer(values={PART_SECONDS: seconds})


def seconds_of(seen: Mapping[str, Outcome], *, control: str) -> dict[Observed, float]:
    """Add up what observing took, over all workers.

    Args:
        seen: workers by name.
        control: the name of the run, or of the worker, that is the reference's second one.
    """
    took: dict[Observed, float] = {}
    for name, outcome in seen.items():
        part: Part | None = None
        for message in outcome.messages:
            if isinstance(message, Part):
                part = message
            elif part is not None and isinstance(message, Answer):
                seconds = message.values.get(PART_SECONDS)
                if isinstance(seconds, float):
                    is_control = control in (name, part.run)
                    given = [Observed("run", control)] if is_control else list(_observed(part.fingerprint))
                    for one in given:  # a step that gives several sections does not tell them apart
                        took[one] = took.get(one, 0.0) + seconds / len(given)
                part = None
    return took


def _observed(fingerprint: Fingerprint) -> Iterator[Observed]:
    """What a part is about, each once."""
    probes = {failure.probe for failure in fingerprint.failures if failure.probe is not None}
    names = {*fingerprint.sections, *(failure.section for failure in fingerprint.failures)}
    for name in sorted(names):
        if name in PROBE_SECTIONS:
            probes |= {probe_of(location) for location in fingerprint.sections.get(name, {})}
        else:
            yield Observed("section", name)
    yield from (Observed("probe", name) for name in sorted(probes))
