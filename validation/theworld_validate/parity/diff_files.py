"""Two fingerprints from files, compared: made by any process, machine or release.

In: two files, checked. Out: what differs around them first, then what differs in them, with causes.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from theworld_validate.compare.differences import diff_section
from theworld_validate.compare.judgement import truth_of_another
from theworld_validate.compare.places import WHOLE_MODEL
from theworld_validate.documents.fingerprint import FingerprintFile, why_not_compared
from theworld_validate.documents.observations import Section, whole_plan
from theworld_validate.parity.accepting import accept_equivalent, settle
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.results import CheckResult, InputError, Plan, Status


def compare_files(
    reference: FingerprintFile,
    candidate: FingerprintFile,
    *,
    accept_rounding: bool = False,
    truth: FingerprintFile | None = None,
) -> Iterator[CheckResult]:
    """Compare two fingerprints that were made apart: what differs around them first, then what differs in them.

    A difference in subject or environment is no failure: it is what explains one.

    Args:
        accept_rounding: have the referee judge numbers that are not equal; see `compare.judgement`.
        truth: the reference in a wider dtype, with sketches, which the referee judges by.

    Raises:
        InputError: if one observes less than another, as those of earlier versions do.
    """
    if (why := why_not_compared(reference, candidate, *([] if truth is None else [truth]))) is not None:
        raise InputError(why)
    around = [
        *diff_section("subject", _as_section(reference.subject), _as_section(candidate.subject)),
        *diff_section("environment", _as_section(reference.environment), _as_section(candidate.environment)),
    ]
    yield CheckResult(
        id="diff.surroundings",
        status=Status.PASSED,
        reason=f"{len(around)} kinds of difference between where and how the two were made" if around else None,
        seconds=0.0,
        measurements={"compared": len(_as_section(reference.subject)) + len(_as_section(reference.environment))},
        findings=tuple(replace(finding, severity="warning") for finding in around),
    )
    comparison = Comparison(
        plan=joint_plan(reference, candidate),
        reference=Side(fingerprint=reference.fingerprint),
        candidate=Side(fingerprint=candidate.fingerprint),
    )
    evidence = gather_evidence(comparison, {})
    if not accept_rounding:
        yield from explain_checks(list(judge(comparison)), evidence)
        return
    true = None
    if truth is not None:
        other = truth_of_another(reference, truth)
        ended = None if other is None else f"it is of another {other} than the reference; take it anew"
        true = Side(fingerprint=truth.fingerprint, ended=ended)
    accepted = accept_equivalent(comparison, true)
    yield from settle(explain_checks(accepted.checks, evidence), accepted.judgement)


def joint_plan(reference: FingerprintFile, candidate: FingerprintFile) -> Plan:
    """What a comparison of two files must have: all that a whole fingerprint has, and all that either was asked.

    What Gemma 3 is asked is known here, and must be there whatever a file's own plan says; what another family is
    asked follows from its config, and only the files say it.
    """
    from theworld_validate.probes.probe import PROBE_NAMES

    known = () if _is_of_another_family(reference) and _is_of_another_family(candidate) else PROBE_NAMES
    return whole_plan(tuple(dict.fromkeys((*known, *reference.plan.probes, *candidate.plan.probes))))


def _is_of_another_family(file: FingerprintFile) -> bool:
    """Whether the model's class is one of transformers' other than Gemma 3's; a file that does not say so is none."""
    seen = file.fingerprint.sections.get("modules", {}).get(WHOLE_MODEL, {})
    named = seen.get("transformers_class")
    return isinstance(named, str) and not named.startswith("transformers.models.gemma3.")


_NO_PART = ("role", "printed", "printed_bytes", "packages")


def _as_section(value: Any) -> Section:
    fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
    flat: Section = {name: {name: item} for name, item in fields.items() if name not in _NO_PART}
    flat.update({f"packages.{name}": {name: version} for name, version in fields.get("packages", {}).items()})
    return flat
