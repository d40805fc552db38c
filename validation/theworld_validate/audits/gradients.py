"""One training step: which parameters receive a gradient, and which wrongly do or do not.

In: a subject with its world branch on, and freeze presets. Out: one check a preset. A trainable parameter that no
gradient reaches is dead: it costs optimizer state, never learns, and stops distributed training.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from theworld_validate.results import CheckResult, Finding, InputError, Severity, Status
from theworld_validate.subjects.subject import Subject

PRESETS = ("projection", "vision", "language", "full")  # "documented" is a mistake that is kept to be shown
Progress = Callable[[str], None]
_PROMPT = "<start_of_image> A clip: <start_of_world> What happens next?"
_SIDE = 32  # pixels of the clip


def check_gradients(
    subject: Subject, *, presets: Sequence[str] = PRESETS, progress: Progress = lambda step: None
) -> Iterator[CheckResult]:
    """Run one step for each preset, and yield its check.

    Args:
        subject: with `cosmos`, so that every component takes part.

    Raises:
        InputError: if it cannot be loaded, has no world branch, or a preset does not exist.
    """
    from theworld.freezing import PRESETS as KNOWN
    from theworld.freezing import has_temporal_embedding

    for preset in presets:
        if preset not in KNOWN:
            raise InputError(f"--preset {preset}: no such freeze preset; there are {', '.join(KNOWN)}")
    if subject.cosmos is None:
        raise InputError(f"{subject.checkpoint}: a model without a VAE; name a Cosmos repository with --cosmos")
    inputs = model = None
    for preset in presets:
        progress(f"gradients under the preset {preset}")
        if model is None or not has_temporal_embedding(KNOWN[preset]):
            model = replace(subject, freeze=preset).load()
        model.set_freeze(preset)
        inputs = inputs or step_inputs(subject.checkpoint, model.world_config)
        run = partial(_loss, inputs=inputs)
        yield audit_gradients(model, run, check_id=f"gradients.{preset}", seed=subject.seed)
        if not has_temporal_embedding(KNOWN[preset]):
            model = None


def step_inputs(checkpoint: str, world_config: Any = None, *, side: int = _SIDE, num_frames: int = 5) -> Any:
    """A prompt with an image and a clip; the whole prompt is the label.

    Args:
        side: pixels of the clip, each way.
        num_frames: of the clip, 1 + 4k.

    Raises:
        InputError: if the checkpoint has no usable processor.
    """
    import numpy as np
    import torch
    from PIL import Image

    from theworld import TheWorldProcessor

    try:
        processor = TheWorldProcessor.from_pretrained(checkpoint, world_config=world_config, frame_size=side)
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint}: no usable processor ({' '.join(str(error).split())})") from error
    random = np.random.Generator(np.random.PCG64(0))
    image = Image.fromarray(random.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8))
    clip = torch.from_numpy(random.uniform(-1, 1, (3, num_frames, side, side)).astype(np.float32))
    features = processor(text=[_PROMPT], images=[[image]], world_frames=[clip], return_tensors="pt")
    return {**features, "labels": features["input_ids"]}


def audit_gradients(
    model: Any,
    run: Callable[[Any], Any],
    *,
    check_id: str,
    seed: int = 0,
    components: dict[str, dict[str, Any]] | None = None,
) -> CheckResult:
    """Run one forward and backward pass in training mode, and look at every parameter's gradient.

    Args:
        run: gives the model's loss, a scalar.
        components: what is reported together; TheWorld's own if None.

    Raises:
        InputError: if nothing at all is trainable.
    """
    import torch

    if components is None:
        components = _own_components(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("every parameter is frozen: there is no gradient to audit; name a preset that trains")
    started = time.perf_counter()
    was_training = model.training
    model.train()
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []), _watched(model) as leaks:
        torch.manual_seed(seed)
        loss = run(model)
        loss.backward()
    findings = [_leak(name) for name in leaks[:1]]
    rows: list[dict[str, Any]] = []
    for component, parameters in components.items():
        kinds: Counter[str] = Counter()
        for name, parameter in parameters.items():
            kind = _kind(parameter)
            kinds[kind] += parameter.numel()
            if kind in _PROBLEMS and not any(f.code == f"gradients.{kind}" and f.actual == component for f in findings):
                findings.append(_problem(kind, name, component, parameters))
        trainable = sum(p.numel() for p in parameters.values() if p.requires_grad)
        rows.append({"component": component, "trainable": trainable, **{kind: kinds[kind] for kind in _KINDS}})
    dead = sum(row["dead"] for row in rows)
    if dead:
        findings.append(_ddp_warning(dead))
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return CheckResult(
        id=check_id,
        status=Status.FAILED if any(f.severity == "error" for f in findings) else Status.PASSED,
        seconds=time.perf_counter() - started,
        measurements={
            "trainable_parameters": sum(row["trainable"] for row in rows),
            "dead_parameters": dead,
            "loss": float(loss.detach()),
            "components": rows,
        },
        findings=tuple(findings),
    )


def _loss(model: Any, *, inputs: Any) -> Any:
    return model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}).loss


def _own_components(model: Any) -> dict[str, dict[str, Any]]:
    from theworld.components import parameters_by_component

    try:
        return parameters_by_component(model)
    except ValueError as error:
        raise InputError(str(error)) from error


_KINDS = ("learns", "dead", "zero", "non_finite", "frozen", "frozen_but_receives")
_PROBLEMS: dict[str, tuple[Severity, str, str, str]] = {
    "dead": (
        "error",
        "trainable, and no gradient reaches it",
        "it takes no part in the loss, or what leads to it is frozen or detached",
        "freeze it, or train what it feeds: compare the preset with theworld.components",
    ),
    "zero": (
        "warning",
        "trainable, and its gradient is zero in every element",
        "what it feeds does not change the loss on this input",
        "look whether the input uses it; if it never does, freeze it",
    ),
    "non_finite": (
        "error",
        "its gradient has a NaN or infinity",
        "an overflow in this dtype, or a division by zero",
        "load in bfloat16 or float32, and look for the first non-finite output in the trace",
    ),
    "frozen_but_receives": (
        "error",
        "frozen, and it receives a gradient",
        "requires_grad was set again, or the parameter was replaced, after freezing",
        "call set_freeze after everything that builds or wraps the model",
    ),
}


def _kind(parameter: Any) -> str:
    import torch

    if not parameter.requires_grad:
        return "frozen" if parameter.grad is None else "frozen_but_receives"
    if parameter.grad is None:
        return "dead"
    if not bool(torch.isfinite(parameter.grad).all()):
        return "non_finite"
    return "learns" if bool((parameter.grad != 0).any()) else "zero"


def _problem(kind: str, name: str, component: str, parameters: Any) -> Finding:
    severity, what, cause, remedy = _PROBLEMS[kind]
    alike = [p for p in parameters.values() if _kind(p) == kind]
    elements = sum(p.numel() for p in alike)
    return Finding(
        code=f"gradients.{kind}",
        severity=severity,
        location=name,
        message=f"{name}: {what} (first of {len(alike)} tensors, {elements:,} parameters, in {component})",
        expected="learns" if kind != "frozen_but_receives" else "frozen",
        actual=component,
        cause=cause,
        remedy=remedy,
    )


def _ddp_warning(dead: int) -> Finding:
    return Finding(
        code="gradients.ddp",
        severity="warning",
        location="(model)",
        message=f"DistributedDataParallel would stop at the second step: {dead:,} trainable parameters get no gradient",
        expected=0,
        actual=dead,
        cause="DDP waits for the gradient of every trainable parameter",
        remedy="freeze them, or pass find_unused_parameters=True and pay for a walk of the graph each step",
    )


def _leak(name: str) -> Finding:
    return Finding(
        code="gradients.frozen_output",
        location=name,
        message=f"{name} is frozen and is fed nothing that requires a gradient, and its output requires one",
        expected=False,
        actual=True,
        cause="a leftover hook: gradient_checkpointing_disable() leaves one (transformers 5.17); activations are kept",
        remedy="call model.disable_input_require_grads(), remove the hook, or load the model afresh",
    )


@contextmanager
def _watched(model: Any) -> Iterator[list[str]]:
    """List the modules, in call order, whose output requires a gradient that nothing of theirs asked for."""
    import torch

    leaks: list[str] = []

    def asks(value: Any) -> bool:
        if isinstance(value, torch.Tensor):
            return value.requires_grad
        if isinstance(value, dict):
            return any(asks(item) for item in value.values())
        return isinstance(value, (list, tuple)) and any(asks(item) for item in value)

    def look(name: str, args: Any, kwargs: Any, output: Any) -> None:
        if asks(output) and not asks(args) and not asks(kwargs):
            leaks.append(name)

    handles = [
        module.register_forward_hook(
            lambda module, args, kwargs, output, name=name: look(name, args, kwargs, output), with_kwargs=True
        )
        for name, module in model.named_modules()
        if name and not any(parameter.requires_grad for parameter in module.parameters())
    ]
    try:
        yield leaks
    finally:
        for handle in handles:
            handle.remove()
