"""The round trip judged: does a model come back as it was saved, and can others load what it wrote?

In: what both sides delivered. Out: findings on the candidate: its state before saving against after loading, its
files' keys and dtypes against those that the base class writes, and the same files loaded by the base class.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from theworld_validate.compare.differences import diff_section
from theworld_validate.documents.observations import (
    LOADED_SECTIONS,
    SAVED_SECTIONS,
    Failure,
    Fingerprint,
    Observation,
    Section,
    num_tensors,
)
from theworld_validate.results import CheckResult, Finding, Status

_BASE = ("parameters", "buffers")
_SECTION = "round_trip"
_AGAIN = "after it was saved and loaded again"


def compare_round_trips(
    reference: Fingerprint, candidate: Fingerprint, before: Fingerprint | None = None
) -> tuple[int, list[Finding], str | None]:
    """Judge the candidate's round trip.

    Args:
        reference: with the keys that it writes; with its whole round trip where that is known.
        candidate: with its whole round trip.
        before: the candidate's state in the worker that saved it; its state in `candidate` if None.

    Returns:
        How many tensors were compared, the findings, and why it proves nothing where the reference itself does not
        come back as it was saved; None where it does, or where that was not asked.
    """
    own, ours = candidate.sections[_SECTION], reference.sections[_SECTION]
    before = before or candidate
    by_base = _come_back(before, own, "base/", _BASE, "when the base class loads what was saved")
    # A tie that is gone is told of by itself, and the names of the other keys are then no fault.
    is_loaded_by_base = any(key.startswith("base/") for key in own) and all(f.field == "tied_to" for f in by_base)
    untied = {finding.location.rpartition("/")[2] for finding in by_base}
    findings = [
        *_come_back(before, own, "", SAVED_SECTIONS, _AGAIN, after_raised=bool(candidate.failures_of(_SECTION))),
        *_written(ours, own, only_names=is_loaded_by_base, untied=untied),
        *by_base,
    ]
    why = None
    if any(not key.startswith("written/") for key in ours):
        reasons = _come_back(reference, ours, "", SAVED_SECTIONS, _AGAIN)
        why = f"the reference itself does not come back as it was saved: {reasons[0].message}" if reasons else None
    return num_tensors(own), findings, why


def check_loads(first: Fingerprint, second: Fingerprint | None) -> Iterator[CheckResult]:
    """One more check where two loads of the candidate, each in a worker, do not give the same model.

    Where tensors lie is the machine's free memory as much as the loader's, so it is no difference here, and neither is
    what follows from it.

    Args:
        first: of the worker that observed it.
        second: of the one that saved it, or None; what both delivered is compared, and what the first alone delivered
            is a finding if the second raised.
    """
    if second is None:
        return
    findings = []
    ignored = _ignored_fields(first, second)
    for name in LOADED_SECTIONS:
        if name not in first.sections:  # told of by the section's own check
            continue
        findings += [_raises(failure) for failure in second.failures_of(name)]
        if name not in second.sections:
            continue
        sides = [
            {place: _less(seen, *ignored.get(name, ())) for place, seen in side.sections[name].items()}
            for side in (first, second)
        ]
        for finding in diff_section(name, *sides):
            what = finding.message.replace(" the candidate", " the second load")
            findings.append(
                replace(
                    finding,
                    code=f"{name}.loads_differ",
                    message=f"two loads of the candidate differ: {what}",
                    section=name,
                    field="loads_differ",
                )
            )
    if any(finding.severity == "error" for finding in findings):
        yield CheckResult(id="parity.loads", status=Status.FAILED, seconds=0.0, findings=tuple(findings))


# What accelerate adds where it spreads a model over devices, and what a copy to another device may change.
_BY_PLACEMENT = {"modules": ("hooks", "overrides"), "parameters": ("stride", "same_memory_as")}


def _ignored_fields(first: Fingerprint, second: Fingerprint) -> dict[str, tuple[str, ...]]:
    """The fields, section by section, that two loads need not have in common."""
    devices = [
        {
            (name, place): seen["device"]
            for name in _BASE
            for place, seen in side.sections.get(name, {}).items()
            if "device" in seen
        }
        for side in (first, second)
    ]
    is_moved = any(devices[1].get(place, device) != device for place, device in devices[0].items())
    by_placement = _BY_PLACEMENT if is_moved else {}
    return {name: ("after_run", "device", *by_placement.get(name, ())) for name in LOADED_SECTIONS}


def _raises(failure: Failure) -> Finding:
    """A section of the second load that cannot be observed, where that of the first could."""
    return Finding(
        code=f"{failure.section}.loads_differ",
        location=failure.section,
        message=f"two loads of the candidate differ: {failure.section} of the second load raises {failure.error}",
        actual=failure.place,
        section=failure.section,
        field="loads_differ",
    )


def _less(seen: Observation, *fields: str) -> Observation:
    return {name: value for name, value in seen.items() if name not in fields}


def _part(section: Section, prefix: str) -> Section:
    return {key.removeprefix(prefix): seen for key, seen in section.items() if key.startswith(prefix)}


def _come_back(
    side: Fingerprint,
    after: Section,
    prefix: str,
    parts: tuple[str, ...],
    when: str,
    *,
    after_raised: bool = False,
) -> list[Finding]:
    """What is not the same as before saving, in one subject.

    Args:
        after_raised: a step of the round trip raised, which is a finding by itself.
    """
    findings = []
    for name in parts:
        now = _part(after, f"{prefix}{name}/")
        if not now and (prefix or after_raised):  # nobody but its own loader was asked, or why not is told of
            continue
        before = {key: _kept(seen) for key, seen in side.sections.get(name, {}).items()}
        now = {key: _kept(seen) for key, seen in now.items()}
        if prefix:  # the base class has no more than its own
            before = {key: seen for key, seen in before.items() if key in now}
        for finding in diff_section(name, before, now):
            what = finding.field or "state"
            findings.append(
                replace(
                    finding,
                    code=f"{_SECTION}.{what}",
                    location=f"{prefix}{name}/{finding.location}",
                    message=f"{finding.message.replace(' the candidate', ' what was loaded')} {when}",
                    section=_SECTION,
                )
            )
    return findings


# A fresh load is in no training run: what is trainable, hooked or where is not what files hold.
_NOT_SAVED = ("requires_grad", "hooks", "device", "grad", "stride", "same_memory_as", "after_run")


def _kept(seen: Observation) -> Observation:
    return _less(seen, *_NOT_SAVED)


def _written(reference: Section, candidate: Section, *, only_names: bool, untied: Collection[str]) -> list[Finding]:
    """Keys and dtypes of the written files, against those that the base class writes.

    Args:
        only_names: the base class loads them bit for bit all the same: other names are then shown, and no failure.
        untied: names of parameters whose tie is gone after loading: a key of that name is a failure all the same.
    """
    ours, theirs = _part(reference, "written/"), _part(candidate, "written/")
    return [
        replace(
            finding,
            code=f"{_SECTION}.written_{finding.field}",
            severity="warning"
            if only_names and finding.field in ("missing", "extra") and finding.location not in untied
            else finding.severity,
            location=f"written/{finding.location}",
            message=f"in the saved files, {finding.message}",
            section=_SECTION,
        )
        for finding in diff_section("written", ours, theirs)
    ]
