"""Every buffer of a model: against the base class loaded the same way, and against its formula in float64.

In: two subjects, and what is done to a model after loading. Out: one check for the loaded buffers, and one for each
thing done. What a cast does to the base class too is a warning; what only the candidate suffers is a failure.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from theworld.published_names import EITHER_WAY
from theworld_validate.audits.buffer_formulas import distance_in_ulps, expect_buffers
from theworld_validate.audits.latents_statistics import audit_latents_statistics
from theworld_validate.audits.transformations import TRANSFORMATIONS
from theworld_validate.compare.differences import diff_section
from theworld_validate.documents.observations import Section
from theworld_validate.fingerprint.state import fingerprint_buffers
from theworld_validate.results import CheckResult, Finding, Status
from theworld_validate.subjects.subject import Subject

Progress = Callable[[str], None]
Names = tuple[set[str], set[str]]  # of parameters, of buffers


def check_buffers(
    reference: Subject,
    candidate: Subject,
    *,
    after: Sequence[str] = (),
    progress: Progress = lambda step: None,
) -> tuple[CheckResult, ...]:
    """Audit the candidate's buffers as they are loaded, and after each of some transformations.

    Args:
        reference: the base class, loaded the same way.
        after: names out of `transformations.TRANSFORMATIONS`.

    Raises:
        InputError: if a subject cannot be loaded.
    """
    progress(f"buffers in {candidate.dtype}")
    started = time.perf_counter()
    base, model = reference.load(), candidate.load()
    expected, actual = fingerprint_buffers(base), fingerprint_buffers(model)
    findings = audit_buffers(model, base_names=_names(base), expected=expected, actual=actual)
    distances = _distances(model)
    known = [ulps for ulps in distances.values() if ulps is not None]
    loaded = CheckResult(
        id=f"buffers.{candidate.dtype}",
        status=_judge(findings, actual),
        reason=None if actual else "the model has no buffer",
        seconds=time.perf_counter() - started,
        measurements={
            "tensors_compared": len(actual),
            "compared_bytes": sum(buffer.nbytes for buffer in model.buffers()),
            "formulas_checked": len(distances),
            "max_float32_ulps": max(known, default=None),
            "buffers": [_row(name, seen, distances.get(name)) for name, seen in actual.items()],
        },
        findings=tuple(findings),
    )
    checks = [loaded]
    for position, name in enumerate(after):
        progress(f"buffers in {candidate.dtype}, after {TRANSFORMATIONS[name].title}")
        if position:
            base, model = reference.load(), candidate.load()
        checks.append(_check_after(name, base, model, dtype=candidate.dtype))
    return tuple(checks)


def audit_buffers(model: Any, *, base_names: Names, expected: Section, actual: Section) -> list[Finding]:
    """Find what is wrong with a model's buffers.

    Args:
        base_names: names of the base's parameters, and of its buffers.
        expected, actual: the buffers of the base and of the model.
    """
    findings = _changed_kinds(base_names, _names(model))
    changed = {finding.location for finding in findings}
    ours = {name: seen for name, seen in actual.items() if not name.startswith(EITHER_WAY) and name not in changed}
    findings += diff_section("buffers", {n: seen for n, seen in expected.items() if n not in changed}, ours)
    findings += _off_formula(model)
    findings += _misplaced(model)
    findings += audit_latents_statistics(model)
    return findings


def _names(model: Any) -> Names:
    return {name for name, _ in model.named_parameters()}, {name for name, _ in model.named_buffers()}


def _changed_kinds(base: Names, other: Names) -> list[Finding]:
    """Buffers that became parameters, and the reverse."""
    findings = []
    to_parameter, to_buffer = base[1] & other[0], base[0] & other[1]
    for names, was, is_now in ((to_parameter, "buffer", "parameter"), (to_buffer, "parameter", "buffer")):
        findings += [
            Finding(
                code="buffers.kind",
                location=name,
                message=f"{name} is a {is_now}, and a {was} in the base class",
                expected=was,
                actual=is_now,
                cause="it was assigned or registered again in another way",
                remedy=f"register it as a {was}, or saved files and optimizers will differ",
            )
            for name in sorted(names)
        ]
    return findings


def _distances(model: Any) -> dict[str, int | None]:
    buffers = dict(model.named_buffers())
    return {
        name: distance_in_ulps(buffers[name], expected)
        for name, expected in expect_buffers(model).items()
        if name in buffers and buffers[name].device.type != "meta"
    }


def _off_formula(model: Any) -> list[Finding]:
    findings = []
    expected = expect_buffers(model)
    for name, ulps in _distances(model).items():
        limit = expected[name].max_ulps
        if ulps is not None and ulps <= limit:
            continue
        how = "has another shape, or a NaN or infinity" if ulps is None else f"is {ulps:,} float32 ulps away"
        findings.append(
            Finding(
                code="buffers.formula",
                location=name,
                message=f"{name} {how} from {expected[name].formula}",
                expected=limit,
                actual=ulps,
                cause="it was cast, computed from another config, or never computed after loading from the meta device",
                remedy="let from_pretrained build it, and do not cast the model afterwards",
            )
        )
    return findings


def _misplaced(model: Any) -> list[Finding]:
    """Buffers that are not where their module's part of the device map is, or on no real device."""
    device_map = getattr(model, "hf_device_map", None) or {"": model.device}
    findings = []
    for name, buffer in model.named_buffers():
        owners = [key for key in device_map if not key or name == key or name.startswith(f"{key}.")]
        if not owners:
            continue
        expected = _as_device(device_map[max(owners, key=len)])
        if expected is None or buffer.device == expected:
            continue
        findings.append(
            Finding(
                code="buffers.device",
                location=name,
                message=f"{name} is on {buffer.device}, and its module on {expected}",
                expected=str(expected),
                actual=str(buffer.device),
                cause="it was made on another device, or never materialised",
                remedy="register it in the module's __init__, so that loading and device_map move it",
            )
        )
    return findings


def _as_device(place: Any) -> Any:
    """A device map's entry as a torch device; None for what is offloaded and fetched when needed."""
    import torch

    if place == "disk":
        return None
    device = torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _row(name: str, seen: dict[str, Any], ulps: int | None) -> dict[str, Any]:
    fields = ("dtype", "shape", "device", "persistent")
    return {"buffer": name, **{field: seen[field] for field in fields}, "float32_ulps": ulps}


def _judge(findings: Sequence[Finding], actual: Section) -> Status:
    if any(finding.severity == "error" for finding in findings):
        return Status.FAILED
    return Status.PASSED if actual else Status.INCONCLUSIVE


def _check_after(name: str, base: Any, model: Any, *, dtype: str) -> CheckResult:
    """Do the same to the base and to the candidate; compare them, and each with what it was."""
    transformation = TRANSFORMATIONS[name]
    check_id = f"buffers.{dtype}.after_{name}"
    started = time.perf_counter()
    if (reason := transformation.why_not()) is not None:
        return CheckResult(id=check_id, status=Status.SKIPPED, reason=reason, seconds=0.0)
    before = fingerprint_buffers(model)
    base, model = transformation.apply(base), transformation.apply(model)
    after = fingerprint_buffers(model)
    ours = {key: seen for key, seen in after.items() if not key.startswith(EITHER_WAY)}
    errors = diff_section("buffers", fingerprint_buffers(base), ours)
    changes = [
        replace(
            finding,
            code=f"buffers.after_{name}",
            severity="warning",
            message=f"after {transformation.title} {finding.message}",
            cause=transformation.why,
            remedy=transformation.remedy,
        )
        for finding in diff_section("buffers", before, after)
    ]
    num_changed = sum(before.get(key) != after.get(key) for key in before | after)
    return CheckResult(
        id=check_id,
        status=_judge(errors, after),
        seconds=time.perf_counter() - started,
        measurements={"tensors_compared": len(after), "changed_buffers": num_changed},
        findings=(*errors, *changes),
    )
