"""One family tried: a plain subclass, and five faults, each caught and placed or not.

In: a class's name and its tiny checkpoint. Out: a `Trial` a fault. The reference is observed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.theworld_validate.families import faulty
from theworld_validate.compare.explain import rank_roots
from theworld_validate.compare.places import WHOLE_MODEL
from theworld_validate.documents.observations import Section
from theworld_validate.faults import places
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.check import check_parity
from theworld_validate.parity.jobs import observe_job, side_of
from theworld_validate.parity.judge import Comparison, judge
from theworld_validate.parity.planning import plan_parity
from theworld_validate.results import Finding, Status, combine
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.run import Run

FAULTS = ("flipped_bit", "lost_key", "upcast_norm", "hook", "eager")
_LOADERS = "tests.theworld_validate.families.faulty:"
_PLAIN = "theworld_validate.scan.plain_subclasses:Plain"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How one fault was seen: its likeliest root, and whether that is what was planted, where it was planted."""

    fault: str
    root: Finding | None
    placed: bool


def sides(name: str, folder: Path, candidate: str) -> tuple[Subject, Subject]:
    reference = Subject(target=f"transformers:{name}", checkpoint=str(folder), dtype="float32", attn=_attention(name))
    return reference, replace(reference, target=candidate)


def _attention(name: str) -> str | None:
    import transformers

    return "sdpa" if getattr(getattr(transformers, name), "_supports_sdpa", False) else None


def try_plain_subclass(name: str, folder: Path) -> tuple[Status, tuple[Finding, ...], str | None]:
    """The verdict, the roots where it fails, and the reason where it is inconclusive."""
    checks = list(check_parity(*sides(name, folder, f"{_PLAIN}{name}"), run=Run()))
    failed = [f for check in checks if check.status is Status.FAILED for f in check.findings]
    roots = tuple(root for root in rank_roots(failed) if root.severity == "error")
    reasons = [f"{check.id}: {check.reason}" for check in checks if check.status is Status.INCONCLUSIVE]
    return combine([check.status for check in checks]), roots, reasons[0] if reasons else None


def try_faults(name: str, folder: Path, faults: tuple[str, ...] = FAULTS) -> Iterator[Trial]:
    """Plant each fault alone, and judge it."""
    reference, _ = sides(name, folder, "")
    if reference.attn is None:  # it has one way to attend, or none
        faults = tuple(fault for fault in faults if fault != "eager")
    run = Run()
    agreed = plan_parity(reference, run, ())
    plan = replace(agreed.plan, sections=tuple(s for s in agreed.plan.sections if s != "round_trip"))
    subjects = [reference, *(replace(reference, target=_LOADERS + fault) for fault in faults)]
    names = ("reference", *faults)
    jobs = [
        observe_job(who, subject, plan, control=False, round_trip="none")
        for who, subject in zip(names, subjects, strict=True)
    ]
    seen, *outcomes = run.do([replace(job, threads=agreed.threads) for job in jobs], at_once=2)
    expected = side_of(seen)
    assert expected.ended is None, expected.ended
    for fault, outcome in zip(faults, outcomes, strict=True):
        comparison = Comparison(plan=plan, reference=expected, candidate=side_of(outcome), files=agreed.files)
        checks = explain_checks(list(judge(comparison)), gather_evidence(comparison, {}))
        found = rank_roots([f for check in checks if check.status is Status.FAILED for f in check.findings])
        root = next((root for root in found if root.severity == "error"), None)
        wanted = _expected_root(fault, str(folder), expected.fingerprint.sections)
        yield Trial(fault=fault, root=root, placed=root is not None and _is(root, wanted, fault))


def _is(root: Finding, wanted: tuple[str, str], fault: str) -> bool:
    if fault == "lost_key":
        return root.code == wanted[0] and faulty.is_of_key(root.location, wanted[1])
    return (root.code, root.location) == wanted


def _expected_root(fault: str, checkpoint: str, sections: dict[str, Section]) -> tuple[str, str]:
    """The code and the place of the root that a fault must have."""
    parameters = sections["parameters"]
    if fault == "flipped_bit":
        return "parameters.digest", places.middle_weight(parameters)
    if fault == "lost_key":
        return "parameters.digest", faulty.key_to_lose(checkpoint, places.matrices(parameters))
    if fault == "upcast_norm":
        return "parameters.dtype", places.first_norm(parameters)
    if fault == "hook":
        return "modules.hooks", places.middle_module(sections["modules"])
    return "modules.attn_implementation", WHOLE_MODEL
