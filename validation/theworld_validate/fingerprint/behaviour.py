"""What a model answers: trace, outputs and generation, in steps that stand each by itself.

In: a loaded model and probes. Out: (step, part) pairs; locations start with the probe's name. A step that raises gives
a part with a `Failure` for each section that it would have filled, and the others go on. A probe whose logits or loss
are not finite says so at "PROBE/non_finite" of its outputs.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import EMPTY, Fingerprint, Observation, Section
from theworld_validate.documents.sketches import Sketch
from theworld_validate.fingerprint.arguments import ask_arguments
from theworld_validate.fingerprint.compiled import COMPILED_NOTE, COMPILED_PLACE, is_compilers_error
from theworld_validate.fingerprint.digest import DigestQueue, describe_shape
from theworld_validate.fingerprint.failures import failure_of
from theworld_validate.fingerprint.finite import NON_FINITE, FiniteRecording, find_non_finite
from theworld_validate.fingerprint.forward import (
    Answers,
    OutputClass,
    ask_embeds,
    ask_loss_by_count,
    ask_probe,
    ask_rows,
    ask_untraced,
    bytes_to_hold,
    fingerprint_trace,
    run_probe,
    to_tensors,
)
from theworld_validate.fingerprint.generation import generate, observe_random_state
from theworld_validate.fingerprint.kernels import deterministic_kernels
from theworld_validate.fingerprint.placement import device_of
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.sketch import SketchBook
from theworld_validate.fingerprint.tensor_parts import NoBits
from theworld_validate.fingerprint.trace import Recording, Tracer
from theworld_validate.probes.probe import Extra, Generation, Probe

if TYPE_CHECKING:
    import torch

__all__ = [
    "behaviour_steps",
    "bytes_to_hold",
    "count_behaviour_steps",
    "deterministic_kernels",
    "fingerprint_behaviour",
    "fingerprint_trace",
    "run_probe",
    "to_tensors",
]

_EXTRAS: dict[Extra, Callable[..., Answers]] = {
    "loss_by_count": ask_loss_by_count,
    "rows": ask_rows,
    "embeds": ask_embeds,
    "arguments": ask_arguments,
    "untraced": ask_untraced,
}
_TELLING = ("logits", "loss", "output")  # answers that must be finite have one of these in their name


def behaviour_steps(
    model: Any, probes: Sequence[Probe], *, seed: int = 0, deterministic: bool = True, sketch: bool = False
) -> Iterator[tuple[str, Fingerprint]]:
    """Run every probe and observe trace, outputs and generation, step by step.

    Args:
        model: in the mode that its loader left it in; of one that `torch.compile` returned, outputs are the compiled
            code's and the trace is that of the modules inside.
        probes: what to ask.
        seed: set before each step.
        deterministic: choose deterministic kernels on CUDA; without them some decode steps differ run by run.
        sketch: also sketch every tensor that is digested.
    """
    on_cuda = deterministic and device_of(model).type == "cuda"
    for probe in probes:
        for name, ask in _Interview(model, probe, seed=seed, sketch=sketch).steps():
            with deterministic_kernels(enabled=on_cuda):
                part = ask()
            yield name, part


def count_behaviour_steps(probes: Sequence[Probe]) -> int:
    """How many steps `behaviour_steps` takes."""
    return sum(1 + len(probe.extras) + len(probe.generation) for probe in probes)


def fingerprint_behaviour(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int = 0,
    deterministic: bool = True,
    on_probe: Callable[[str], None] = lambda name: None,
) -> Fingerprint:
    """Run every probe and observe trace, outputs and generation, all at once: see `behaviour_steps`.

    Args:
        on_probe: called with a probe's name before it runs.
    """
    seen = EMPTY
    for probe in probes:
        on_probe(probe.name)
        for _, part in behaviour_steps(model, (probe,), seed=seed, deterministic=deterministic):
            seen = seen.merge(part)
    return seen


class _Interview:
    """One probe put to one model."""

    def __init__(self, model: Any, probe: Probe, *, seed: int, sketch: bool) -> None:
        self._model, self._probe, self._seed = model, probe, seed
        self._prefix = f"{probe.name}/"
        self._sketch = sketch
        self._is_said = False  # that an answer is not finite; the first time is enough

    def steps(self) -> Iterator[tuple[str, Callable[[], Fingerprint]]]:
        """Name each step; what is yielded with it takes it, and raises no `Exception`."""
        model, probe = self._model, self._probe
        yield probe.name, self._forward
        for extra in probe.extras:
            ask = partial(_EXTRAS[extra], model, probe, seed=self._seed)
            yield f"{probe.name}, {extra}", partial(self._answer, "outputs", ask)
        for way in probe.generation:
            yield f"{probe.name}, {way}", partial(self._generate, way)

    def _guard(self, sections: Sequence[str], take: Callable[[], Fingerprint]) -> Fingerprint:
        try:
            return take()
        except Exception as error:  # whatever a model's own code raises
            failures = tuple(failure_of(error, section, self._probe.name) for section in sections)
            return Fingerprint(sections={}, failures=failures)

    def _forward(self) -> Fingerprint:
        seen = self._guard(("trace", "outputs"), self._traced)
        # Generation that is not asked for is a section without observations, not a section that is missing.
        return seen if self._probe.generation else seen.merge(Fingerprint(sections={"generation": {}}))

    def _traced(self) -> Fingerprint:
        """Trace and outputs of one run; of two where something is compiled, which no hook may enter."""
        tracer = Tracer(self._model)
        if not tracer.is_compiler_off:
            try:
                return self._trace_and_outputs(tracer)
            except Exception as error:
                if not is_compilers_error(error):
                    raise
        trace = self._guard(("trace",), lambda: self._trace_alone(is_said=tracer.is_compiler_off))
        return trace.merge(self._answer("outputs", self._ask_again))

    def _trace_and_outputs(self, tracer: Tracer) -> Fingerprint:
        part, answers = self._record(tracer)
        return part.merge(self._observe("outputs", answers, self._ask_again))

    def _trace_alone(self, *, is_said: bool) -> Fingerprint:
        """Trace with the compiler off.

        Args:
            is_said: whether the section "modules" says that something is compiled; else the trace says it.
        """
        part, _ = self._record(Tracer(self._model, without_compiler=True))
        if not is_said:
            part.sections["trace"][f"{self._prefix}{COMPILED_PLACE}"] = {"value": COMPILED_NOTE}
        return part

    def _inputs(self) -> "dict[str, torch.Tensor]":
        return to_tensors(self._probe, self._model)

    def _ask_again(self) -> Answers:
        return ask_probe(self._model, self._probe, self._inputs(), seed=self._seed)

    def _book(self) -> SketchBook | None:
        if not self._sketch:
            return None
        mask = self._inputs().get("attention_mask")
        return SketchBook(None if mask is None or mask.dim() != 2 or mask.all() else mask == 0)

    def _record(self, tracer: Tracer) -> tuple[Fingerprint, Answers]:
        model, probe, inputs = self._model, self._probe, self._inputs()
        with tracer:
            book = self._book()
            recording = Recording(self._prefix, bytes_to_hold(model, probe.num_tokens), sketches=book)
            answers = run_probe(model, tracer, probe, inputs, recording, seed=self._seed)
            if recording.changed_in_place:
                book = self._book()
                recording = Recording(self._prefix, max_held_bytes=0, sketches=book)
                answers = run_probe(model, tracer, probe, inputs, recording, seed=self._seed)
        return _trace_part(recording, book), answers

    def _answer(self, section: str, ask: Callable[[], Answers]) -> Fingerprint:
        return self._guard((section,), lambda: self._observe(section, ask(), ask))

    def _generate(self, way: Generation) -> Fingerprint:
        ask = partial(generate, self._model, self._probe, way, seed=self._seed, with_choices=self._sketch)

        def take() -> Fingerprint:
            made = ask()
            # Before anything else is asked: it is the sampling's own.
            state = {"generation": observe_random_state(self._prefix)} if way == "sampled" else {}
            choices = {self._prefix + place: rows for place, rows in made.choices.items()}
            part = self._observe("generation", made.answers, lambda: ask().answers)
            return part.merge(Fingerprint(sections=state, choices=choices))

        return self._guard(("generation",), take)

    def _observe(self, section: str, answers: Answers, ask: Callable[[], Answers]) -> Fingerprint:
        """Digest answers; if logits or loss are not finite, ask once more to find the module."""
        book = self._book()
        queue = DigestQueue(sketches=book)
        num_bytes = 0
        found: Section = {}
        for location, answer in answers.items():
            if isinstance(answer, str):
                found[self._prefix + location] = {"tensor": clean_text(answer)}
                continue
            if isinstance(answer, OutputClass):
                found[self._prefix + location] = {
                    "tensor": "ModelOutput",
                    "output_class": clean_text(answer.name),
                    "output_fields": clean_text(answer.fields),
                }
                continue
            seen: Observation = {"tensor": describe_shape(answer)}
            found[self._prefix + location] = seen
            try:
                num_bytes += queue.add(answer, seen)
            except NoBits as error:
                seen["unreadable"] = clean_text(str(error))
        queue.finish()
        sections = {section: found}
        part = Fingerprint(
            sections=sections,
            num_bytes={"outputs": num_bytes} if section == "outputs" else {},
            sketches=_sketches_of(book),
        )
        return part.merge(self._finite_part(answers, ask))

    def _finite_part(self, answers: Answers, ask: Callable[[], Answers]) -> Fingerprint:
        if self._is_said:
            return EMPTY
        location = find_non_finite(
            (location, answer)
            for location, answer in answers.items()
            if not isinstance(answer, (str, OutputClass)) and any(word in location for word in _TELLING)
        )
        if location is None:
            return EMPTY
        self._is_said = True
        # Where it is no module's, it is made of outputs that are finite.
        seen = self._first_non_finite(ask) or {"first": f"({location})", "non_finite": None}
        return Fingerprint(sections={"outputs": {f"{self._prefix}{NON_FINITE}": seen}})

    def _first_non_finite(self, ask: Callable[[], Answers]) -> Observation | None:
        recording = FiniteRecording()
        try:
            with Tracer(self._model) as tracer, tracer.record(recording):
                ask()
        except Exception:  # it ran a moment ago; what it gave was seen, and is said with or without the module
            return None
        return recording.first()


def _trace_part(recording: Recording, book: SketchBook | None) -> Fingerprint:
    return Fingerprint(
        sections={"trace": recording.section},
        num_bytes={"trace": recording.num_bytes},
        sketches=_sketches_of(book),
    )


def _sketches_of(book: SketchBook | None) -> dict[str, Sketch]:
    return {} if book is None else book.sketches
