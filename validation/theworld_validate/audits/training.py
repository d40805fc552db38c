"""What a training must keep, seen in what short trainings of the tiny model leave on the disk.

In: nothing but the installed libraries. Out: one check an aspect: each learning rate arrives, what is frozen keeps its
bits, a run that goes on is the run that was never interrupted, accumulation and sharding have the gradients of the one
large batch, and an export comes back as it was trained. Nothing that the trainer says of itself is taken for it.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from theworld_validate.audits.training_runs import (
    RATES,
    WHOLE_STEPS,
    Runs,
    initial_weights,
    sharded,
    train,
)
from theworld_validate.compare.advice import advise
from theworld_validate.compare.causes import Cause
from theworld_validate.results import CheckResult, Finding, Measurements, Scalar, Status

if TYPE_CHECKING:
    import torch

RATE_TOLERANCE = 0.01  # relative; AdamW's first step is the rate, but for its epsilon and rounding
GRADIENT_TOLERANCE = 1e-4  # of a component's largest gradient; bfloat16 rounds by up to 4e-3
LOSS_TOLERANCE = 1e-6  # relative, in float32

Seen = tuple[Measurements, list[Finding]]


def check_training(
    aspects: Sequence[str] = (), *, progress: Callable[[str], None] = lambda step: None
) -> Iterator[CheckResult]:
    """Train the tiny model, and look at what is left.

    Args:
        aspects: of `ASPECTS`; all of them if none is named.
    """
    with tempfile.TemporaryDirectory(prefix="theworld-training-") as scratch:
        runs = Runs(Path(scratch))
        for name in aspects or ASPECTS:
            progress(f"training: {name}")
            started = time.perf_counter()
            measured, findings = ASPECTS[name](runs)
            yield CheckResult(
                id=f"training.{name}",
                status=Status.FAILED if findings else Status.PASSED,
                seconds=time.perf_counter() - started,
                measurements=measured,
                findings=tuple(findings),
            )


def _finding(
    aspect: str, location: str, message: str, cause: Cause, *, expected: Scalar = None, actual: Scalar = None
) -> Finding:
    why, remedy = advise(cause)
    return Finding(
        code=f"training.{aspect}",
        location=location,
        message=message,
        expected=expected,
        actual=actual,
        cause=f"{cause}: {why}",
        remedy=remedy,
        section=aspect,
    )


def _rates(runs: Runs) -> Seen:
    """AdamW's first step moves a weight by the rate, whatever its gradient: so the weights say what rate there was."""
    from theworld.components import component_of
    from theworld.training.optimizer import RateError

    config = runs.config("rates", steps=1, learning_rate=RATES)
    try:
        left = train(config)
    except RateError as error:
        return {}, [_finding("rates", "optimizer.param_groups", f"the trainer refused: {error}", Cause.LEARNING_RATE)]
    before, moved = initial_weights(config), dict.fromkeys(RATES, 0.0)
    for name, after in left.weights(1).items():
        component = component_of(name)
        moved[component] = max(moved.get(component, 0.0), float((after - before[name]).abs().max()))
    findings = [
        _finding(
            "rates",
            component,
            f"{component}: the first step moved no weight by more than {moved[component]:.3g}, and {asked:g} was asked"
            if moved[component] < asked
            else f"{component}: the first step moved a weight by {moved[component]:.3g}, and {asked:g} was asked",
            Cause.LEARNING_RATE,
            expected=asked,
            actual=moved[component],
        )
        for component, asked in RATES.items()
        if abs(moved[component] - asked) > RATE_TOLERANCE * asked
    ]
    return {f"first_step_{name}": value for name, value in moved.items()}, findings


def _frozen(runs: Runs) -> Seen:
    """The export against what was begun with, by `drift`."""
    from theworld_validate.audits.drift import check_drift

    config, export = runs.config("whole", steps=WHOLE_STEPS), str(runs.whole.export)
    trains = config.stages[0].freeze_config.trainable
    drift = check_drift(config.model, export, cosmos=config.cosmos, trains=trains)
    findings = [
        _finding("frozen", found.location, found.message, Cause.FREEZE, expected=found.expected, actual=found.actual)
        for found in drift.findings
    ]
    if not findings and drift.status is not Status.PASSED:
        findings = [_finding("frozen", "drift", f"drift did not pass: {drift.reason}", Cause.UNKNOWN)]
    return drift.measurements, findings


def _resume(runs: Runs) -> Seen:
    """Three steps, and the same three with an end after the first."""
    whole, config = runs.whole, runs.config("resumed", steps=WHOLE_STEPS)
    kept = Path(whole.folder.name, "checkpoint-00000001")
    shutil.copytree(whole.folder.parent / kept, Path(config.output_dir) / kept)
    resumed = train(config)
    expected, found = whole.weights(WHOLE_STEPS), resumed.weights(WHOLE_STEPS)
    differ = [name for name, tensor in expected.items() if name not in found or not tensor.equal(found[name])]
    measured: Measurements = {
        "tensors_compared": len(expected),
        "tensors_that_differ": len(differ),
        "losses": [*whole.losses],
        "losses_resumed": [*resumed.losses],
    }
    if not differ and whole.losses == resumed.losses:
        return measured, []
    # The first loss after the end is of the weights that were resumed with; the optimizer's state comes later.
    is_first = whole.losses[:2] != resumed.losses[:2]
    message = "a run that goes on after its first step is another than the one that was not interrupted: " + (
        "the first loss after it" if is_first else "the first loss after it is the same, and what follows"
    )
    cause = Cause.RESUMED_WEIGHTS if is_first else Cause.RESUMED_STATE
    return measured, [
        _finding(
            "resume",
            differ[0] if differ else "loss",
            f"{message} differs; {len(differ)} of {len(expected)} tensors end in other bits",
            cause,
            expected=whole.losses[1 if is_first else 2],
            actual=next(iter(resumed.losses[1 if is_first else 2 :]), None),
        )
    ]


def _accumulation(runs: Runs) -> Seen:
    """Two samples at once, and one after the other."""
    large = runs.whole
    small = train(runs.config("small", steps=1, batch_size=1, gradient_accumulation_steps=2))
    apart = abs(small.losses[0] / large.losses[0] - 1)
    measured: Measurements = {"loss_relative_difference": apart, "loss_tolerance": LOSS_TOLERANCE}
    worst = _most_apart(large.first_gradients(), small.first_gradients())
    measured |= {"gradient_relative_difference": worst.apart, "gradient_tolerance": GRADIENT_TOLERANCE}
    if apart <= LOSS_TOLERANCE and worst.apart <= GRADIENT_TOLERANCE:
        return measured, []
    said = (
        f"two samples one after the other have the loss {small.losses[0]:.7g}, and at once {large.losses[0]:.7g}; "
        f"gradients of {worst.name} differ by {worst.apart:.2g} of the largest"
    )
    return measured, [
        _finding("accumulation", "loss", said, Cause.LOSS_COUNT, expected=large.losses[0], actual=small.losses[0])
    ]


def _reduction(runs: Runs) -> Seen:
    """One process alone, and the same process sharded: its gradients are the sum of one."""
    alone = runs.whole.first_gradients()
    with sharded() as num_sharded:
        reduced = train(runs.config("sharded", steps=1)).first_gradients()
        modules = num_sharded()
    worst = _most_apart(alone, reduced)
    measured: Measurements = {
        "gradient_relative_difference": worst.apart,
        "gradient_tolerance": GRADIENT_TOLERANCE,
        "gradients_compared": len(alone),
        "modules_sharded": modules,
    }
    if not modules:
        said = "FSDP2 was asked for, and no module was sharded"
        return measured, [_finding("reduction", "(model)", said, Cause.UNKNOWN, expected=True, actual=False)]
    if worst.apart <= GRADIENT_TOLERANCE:
        return measured, []
    said = (
        f"{worst.name}: sharded over one process, its gradient differs by {worst.apart:.2g} of the largest; "
        "bfloat16 rounds by up to 0.0039"
    )
    return measured, [
        _finding(
            "reduction",
            worst.name,
            said,
            Cause.REDUCTION,
            expected=f"within {GRADIENT_TOLERANCE:g}",
            actual=worst.apart,
        )
    ]


def _export(runs: Runs) -> Seen:
    """The export, loaded, against the last checkpoint; and its embeddings against its head."""
    import torch

    from theworld import TheWorld

    trained = runs.whole.weights(WHOLE_STEPS)
    model = TheWorld.from_pretrained(runs.whole.export, dtype=torch.float32)
    held = model.state_dict()
    findings = [
        _finding(
            "export", name, f"{name} comes back from the export with other bits than it was trained to", Cause.SAVING
        )
        for name, tensor in trained.items()
        if name not in held or not held[name].equal(tensor)
    ]
    is_tied = model.lm_head.weight is model.get_input_embeddings().weight
    if not is_tied:
        said = "the export's head is no longer its table of embeddings: the one was trained, the other is the base's"
        findings.insert(0, _finding("export", "lm_head.weight", said, Cause.LOST_TIE, expected=True, actual=False))
    return {"tensors_compared": len(trained), "is_tied": is_tied}, findings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worst:
    """The parameter whose gradients are furthest apart, of its tensor's largest one; infinite if one side has none."""

    name: str
    apart: float


def _most_apart(one: "Mapping[str, torch.Tensor]", other: "Mapping[str, torch.Tensor]") -> _Worst:
    found = []
    for name in one.keys() | other.keys():
        apart = float("inf")
        if name in one and name in other:
            scale = float(one[name].abs().max())
            apart = float((one[name] - other[name]).abs().max()) / scale if scale else float(other[name].abs().max())
        found.append((apart, name))
    apart, name = max(found)
    return _Worst(name=name, apart=apart)


ASPECTS: Mapping[str, Callable[[Runs], Seen]] = {
    "rates": _rates,
    "frozen": _frozen,
    "resume": _resume,
    "accumulation": _accumulation,
    "reduction": _reduction,
    "export": _export,
}
