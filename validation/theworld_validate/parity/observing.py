"""What workers do for a comparison: plan it, load one side, and observe it.

In: a subject and what it is asked. Out: messages: steps, and timed parts of its fingerprint as they are made.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from theworld_validate.documents.observations import EMPTY, LOADED_SECTIONS, SECTIONS, Fingerprint
from theworld_validate.environment import usable_cores
from theworld_validate.parity.loader import Loader
from theworld_validate.parity.times import time_part
from theworld_validate.results import Measurements, Scalar
from theworld_validate.workers.messages import Answer, Expect, Message, Part, Step, Where

if TYPE_CHECKING:
    from theworld_validate.probes.probe import Probe

OBSERVE = "theworld_validate.parity.observing:observe_subject"
PLAN = "theworld_validate.parity.observing:make_plan"
STATE = "theworld_validate.parity.observing:observe_state"
ROUND_TRIP = "theworld_validate.parity.observing:observe_round_trip"
TRUTH = "theworld_validate.parity.observing:observe_truth"
DIGEST = "theworld_validate.parity.observing:digest_checkpoint"
RoundTrip = Literal["whole", "written", "none"]
BEFORE = "before"  # the name of the run that a round trip starts from
CONTROL = "control"  # the name of the reference's second run
_MODELS_A_WORKER = 2  # the model, and its gradients or the model that is loaded again
_WORKING_BYTES = 6 * 10**9  # logits, activations and the context


def make_plan(loader: Loader, probe_names: Sequence[str]) -> Iterator[Message]:
    """Check the checkpoint, and say what both sides will be asked: the probes' names, and the section "files"."""
    from theworld_validate.environment import describe_environment
    from theworld_validate.fingerprint.files import fingerprint_files
    from theworld_validate.parity.questions import questions_of
    from theworld_validate.subjects.subject import check_device

    yield Step(text="checking the checkpoint")
    check_device(loader.device)
    asked = questions_of(loader, probe_names)
    probes = asked.probes
    began = time.perf_counter()
    files = fingerprint_files(loader.checkpoint)
    yield from time_part(Part(fingerprint=Fingerprint(sections={"files": files})), time.perf_counter() - began)
    yield Where(environment=describe_environment())
    names: list[Scalar] = [probe.name for probe in probes]
    sections: list[Scalar] = [name for name in SECTIONS if name not in _not_asked(probes)]
    at_once = _count_at_once(loader)
    threads = _threads(loader) if at_once > 1 else None
    unasked: list[Scalar] = [*asked.unasked]
    values: Measurements = {
        "probes": names,
        "sections": sections,
        "at_once": at_once,
        "threads": threads,
        "unasked": unasked,
    }
    yield Answer(values=values)


def _not_asked(probes: "Sequence[Probe]") -> set[str]:
    """Sections that no chosen probe gives."""
    from theworld_validate.probes.probe import gradient_probe

    missing = set() if any(probe.generation for probe in probes) else {"generation"}
    return missing if gradient_probe(probes) is not None else {*missing, "gradients"}


def _count_at_once(loader: Loader) -> int:
    """How many workers fit on the device: on a CPU two share its cores; a GPU takes three that each hold a model."""
    import torch

    if loader.device == "cpu":
        return min(2, usable_cores())
    from theworld_validate.subjects.checkpoints import weight_bytes_of

    num_bytes = weight_bytes_of(loader.checkpoint)
    if num_bytes is None:
        return 1
    free, _ = torch.cuda.mem_get_info(torch.device("cuda" if loader.device == "auto" else loader.device))
    return max(1, min(3, free // (_MODELS_A_WORKER * num_bytes + _WORKING_BYTES)))


def _threads(loader: Loader) -> int | None:
    """How many threads each of two workers may take, so that they do not wait for each other; None on a GPU."""
    import torch

    return max(1, torch.get_num_threads() // 2) if loader.device == "cpu" else None


def observe_subject(
    loader: Loader,
    probe_names: Sequence[str],
    *,
    control: bool,
    round_trip: RoundTrip = "whole",
    deterministic: bool = True,
    sketch: bool = False,
) -> Iterator[Message]:
    """Load a subject and observe it.

    Args:
        control: run it a second time, with its modules' attributes as they were before the first.
        round_trip: "whole" saves and loads it; "written" only sees what keys saving would write, and writes none;
            "none" leaves it to `observe_round_trip`, in another worker.
        sketch: also sketch the tensors of every run.

    Messages: a `Part` for each step; those of the second run are marked as the control's.
    """
    from theworld_validate.fingerprint.kept_state import remember_attributes
    from theworld_validate.fingerprint.round_trip import fingerprint_written
    from theworld_validate.fingerprint.take import count_run_steps, count_steps, observe, observe_run
    from theworld_validate.parity.questions import questions_of
    from theworld_validate.subjects.wrappers import unwrap

    asked = questions_of(loader, probe_names)
    probes = asked.probes
    num_steps = 1 + count_steps(probes) + (count_run_steps(probes) if control else 0)
    yield Expect(num_steps=num_steps - (round_trip == "none"))
    yield Step(text="loading")
    model = loader.load()
    put_back = remember_attributes(unwrap(model).model)
    options: dict[str, Any] = {
        "seed": loader.seed,
        "deterministic": deterministic,
        "sketch": sketch,
        "announce": True,
    }
    yield from _parts(observe(model, probes, **options, round_trip=False), "first")
    if control:
        put_back()
        yield from _parts(observe_run(model, probes, **options), CONTROL)
    if round_trip == "whole":  # last: it loads further models beside this one
        only: dict[str, Any] = {"only": ("round_trip",), "base_target": asked.base_target}
        yield from _parts(observe(model, probes, **options, **only), "first")
    elif round_trip == "written":
        yield Step(text="keys that saving writes")
        yield Part(fingerprint=fingerprint_written(model))


def observe_truth(loader: Loader, probe_names: Sequence[str], *, deterministic: bool = True) -> Iterator[Message]:
    """Run a reference that is loaded in a wider dtype, with sketches; of its state nothing is told."""
    from theworld_validate.fingerprint.take import count_run_steps, observe_run
    from theworld_validate.parity.questions import questions_of

    probes = questions_of(loader, probe_names).probes
    yield Expect(num_steps=1 + count_run_steps(probes))
    yield Step(text="loading")
    model = loader.load()
    options: dict[str, Any] = {"seed": loader.seed, "deterministic": deterministic, "sketch": True, "announce": True}
    yield from _parts(observe_run(model, probes, **options), "first")


def observe_round_trip(loader: Loader) -> Iterator[Message]:
    """Load a subject, save it and load that; its state before is a part of the run `BEFORE`."""
    from theworld_validate.fingerprint.state import fingerprint_state
    from theworld_validate.fingerprint.take import observe
    from theworld_validate.subjects.architectures import architecture_of

    yield Expect(num_steps=2)
    yield Step(text="loading")
    model = loader.load()
    yield Part(run=BEFORE, fingerprint=fingerprint_state(model, LOADED_SECTIONS))
    base_target = architecture_of(loader.checkpoint).base_target
    only: dict[str, Any] = {"only": ("round_trip",), "base_target": base_target}
    yield from _parts(observe(model, (), seed=loader.seed, announce=True, **only), "first")


def _parts(steps: Iterator[tuple[str, Fingerprint]], run: str) -> Iterator[Message]:
    began = time.perf_counter()
    for name, part in steps:
        if part is EMPTY:  # announced, and made next
            yield Step(text=name if run == "first" else f"{name}, again")
            began = time.perf_counter()
        else:
            yield from time_part(Part(run=run, fingerprint=part), time.perf_counter() - began)


def observe_state(loader: Loader) -> Iterator[Message]:
    """Load a subject and observe its state alone."""
    from theworld_validate.fingerprint.state import fingerprint_state

    yield Step(text="loading again")
    yield Part(fingerprint=fingerprint_state(loader.load()))


def digest_checkpoint(checkpoint: str) -> Iterator[Message]:
    """Answer with the digest of a local checkpoint's tensors, which the report names it by."""
    from theworld_validate.subjects.checkpoints import checkpoint_digest_of

    yield Answer(values={"digest": checkpoint_digest_of(checkpoint)})
