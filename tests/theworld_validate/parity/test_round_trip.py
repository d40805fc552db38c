"""The round trip judged: what comes back, what others can load, and what proves nothing."""

from dataclasses import replace

import pytest

from tests.theworld_validate.parity.documents import (
    BUFFER,
    PLAN,
    WEIGHT,
    judged,
    raising,
    tensor,
    whole,
    with_places,
    without,
)
from theworld_validate.compare.explain import Evidence
from theworld_validate.documents.observations import Fingerprint, Observation, Section
from theworld_validate.parity.causes import explain_checks
from theworld_validate.parity.judge import NOTHING, REFERENCE_RAISES, Comparison, Side, judge
from theworld_validate.parity.round_trip import check_loads, compare_round_trips
from theworld_validate.results import CheckResult, Finding, Status

OTHER_NAME = f"module.{WEIGHT}"


def only(fingerprint: Fingerprint, *prefixes: str) -> Fingerprint:
    """Leave these parts of a round trip alone in it."""
    kept = {key: seen for key, seen in fingerprint.sections["round_trip"].items() if key.startswith(prefixes)}
    return replace(fingerprint, sections={**fingerprint.sections, "round_trip": kept})


def renamed(fingerprint: Fingerprint) -> Fingerprint:
    """The written keys have another prefix."""
    section = fingerprint.sections["round_trip"]
    made = {key.replace(f"written/{WEIGHT}", f"written/{OTHER_NAME}"): seen for key, seen in section.items()}
    return replace(fingerprint, sections={**fingerprint.sections, "round_trip": made})


REFERENCE = only(whole(), "written/")  # the reference is not loaded again unless a candidate fails


def check_of(candidate: Fingerprint, reference: Fingerprint = REFERENCE) -> CheckResult:
    return judged(reference, candidate)["round_trip"]


def shown(check: CheckResult) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.code, finding.location) for finding in check.findings]


def test_what_comes_back_passes() -> None:
    check = check_of(whole())
    assert (check.status, check.reason, check.findings) == (Status.PASSED, None, ())
    assert check.measurements == {"tensors_compared": 4, "compared_bytes": 8}


def test_other_keys_that_the_base_class_loads_all_the_same_are_a_warning() -> None:
    check = check_of(renamed(whole()))
    assert check.status is Status.PASSED
    assert shown(check) == [
        ("warning", "round_trip.written_missing", f"written/{WEIGHT}"),
        ("warning", "round_trip.written_extra", f"written/{OTHER_NAME}"),
    ]
    assert check.findings[0].message.startswith(f"in the saved files, {WEIGHT} is missing from the candidate")


def test_other_keys_that_the_base_class_does_not_find_are_errors() -> None:
    """Its own loader knows the way back; the base class draws the weight at random, and silently."""
    lost = with_places(renamed(whole()), "round_trip", {f"base/parameters/{WEIGHT}": tensor(99)})
    check = check_of(lost)
    assert check.status is Status.FAILED
    assert shown(check) == [
        ("error", "round_trip.written_missing", f"written/{WEIGHT}"),
        ("error", "round_trip.written_extra", f"written/{OTHER_NAME}"),
        ("error", "round_trip.digest", f"base/parameters/{WEIGHT}"),
    ]
    assert check.findings[-1].message == f"{WEIGHT} differs in its bits when the base class loads what was saved"


def test_other_keys_that_no_base_class_was_asked_about_are_errors() -> None:
    check = check_of(only(renamed(whole()), "written/", "config/", "parameters/", "buffers/"))
    assert check.status is Status.FAILED
    assert [severity for severity, _, _ in shown(check)] == ["error", "error"]


def test_other_bits_in_the_files_are_errors_however_they_are_loaded() -> None:
    check = check_of(with_places(whole(), "round_trip", {f"written/{WEIGHT}": {"dtype": "float32", "shape": "[2]"}}))
    assert check.status is Status.FAILED
    assert shown(check) == [("error", "round_trip.written_dtype", f"written/{WEIGHT}")]


@pytest.mark.parametrize(
    ("places", "code", "location"),
    [
        ({f"parameters/{WEIGHT}": tensor(9)}, "round_trip.digest", f"parameters/{WEIGHT}"),
        ({f"buffers/{BUFFER}": tensor(2, dtype="float32")}, "round_trip.dtype", f"buffers/{BUFFER}"),
        ({"config/config.hidden_size": {"value": 3}}, "round_trip.value", "config/config.hidden_size"),
        ({"parameters/more.weight": tensor(9)}, "round_trip.extra", "parameters/more.weight"),
        ({f"base/buffers/{BUFFER}": tensor(9)}, "round_trip.digest", f"base/buffers/{BUFFER}"),
    ],
)
def test_what_does_not_come_back_is_named(places: Section, code: str, location: str) -> None:
    check = check_of(with_places(whole(), "round_trip", places))
    assert check.status is Status.FAILED
    assert shown(check) == [("error", code, location)]
    assert check.findings[0].section == "round_trip"


def test_what_files_do_not_hold_is_not_compared() -> None:
    before = with_places(whole(), "parameters", {WEIGHT: tensor(1, requires_grad=False, hooks=1, device="meta")})
    loaded = {f"parameters/{WEIGHT}": tensor(1, requires_grad=True, hooks=0, device="cpu")}
    assert check_of(with_places(before, "round_trip", loaded)).findings == ()


def test_the_base_class_need_not_have_what_the_candidate_added() -> None:
    added = with_places(whole(), "parameters", {"world.weight": tensor(5)})
    check = check_of(with_places(added, "round_trip", {"parameters/world.weight": tensor(5)}))
    assert (check.status, check.findings) == (Status.PASSED, ())


def test_a_model_that_comes_back_empty_is_a_failure() -> None:
    check = check_of(only(whole(), "written/", "config/", "base/"))
    assert check.status is Status.FAILED
    assert shown(check) == [
        ("error", "round_trip.missing", f"parameters/{WEIGHT}"),
        ("error", "round_trip.missing", f"buffers/{BUFFER}"),
    ]
    assert check.findings[0].message == f"{WEIGHT} is missing from what was loaded after it was saved and loaded again"


def test_a_model_that_raises_on_its_way_back_has_one_finding() -> None:
    """What it therefore could not come back with is no finding of its own."""
    check = check_of(raising(only(whole(), "written/", "base/"), "round_trip"))
    assert check.status is Status.FAILED
    assert shown(check) == [("error", "round_trip.raised", "round_trip")]
    assert check.findings[0].message == "round_trip: the candidate's KeyError: 'x'"


def test_the_worker_that_saved_it_knows_its_state_best() -> None:
    """The candidate's two loads may differ; what is saved is held against the load that was saved."""
    spoilt = with_places(whole(), "parameters", {WEIGHT: tensor(9)})
    compared, findings, why = compare_round_trips(REFERENCE, spoilt, whole())
    assert (compared, findings, why) == (4, [], None)
    _, findings, _ = compare_round_trips(REFERENCE, spoilt)
    assert [finding.location for finding in findings] == [f"parameters/{WEIGHT}", f"base/parameters/{WEIGHT}"]


# The reference.


def test_a_reference_that_does_not_come_back_proves_nothing() -> None:
    broken = with_places(whole(), "round_trip", {f"parameters/{WEIGHT}": tensor(9)})
    check = check_of(broken, reference=broken)
    assert check.status is Status.INCONCLUSIVE
    assert check.reason == (
        f"the reference itself does not come back as it was saved: {WEIGHT} differs in its bits after it was saved "
        "and loaded again"
    )
    assert check_of(broken, reference=whole()).status is Status.FAILED


def test_a_whole_reference_that_comes_back_changes_nothing() -> None:
    assert check_of(whole(), reference=whole()).status is Status.PASSED


@pytest.mark.parametrize("candidate_raises", [True, False])
def test_a_reference_that_raises_proves_nothing(candidate_raises: bool) -> None:
    broken = raising(only(whole(), "written/"), "round_trip")
    check = check_of(broken if candidate_raises else whole(), reference=broken)
    assert (check.status, check.reason) == (Status.INCONCLUSIVE, REFERENCE_RAISES)


def test_nothing_compared_is_inconclusive() -> None:
    empty = replace(whole(), sections={name: {} for name in whole().sections})
    check = check_of(empty, reference=empty)
    assert (check.status, check.reason) == (Status.INCONCLUSIVE, NOTHING)


def test_the_saved_state_of_another_worker_is_what_the_judge_uses() -> None:
    spoilt = with_places(whole(), "parameters", {WEIGHT: tensor(9)})
    comparison = Comparison(
        plan=PLAN, reference=Side(fingerprint=REFERENCE), candidate=Side(fingerprint=spoilt), saved=whole()
    )
    found: list[Finding] = [f for check in judge(comparison) if check.id == "parity.round_trip" for f in check.findings]
    assert found == []


def test_two_loads_that_are_equal_are_no_check() -> None:
    changed_by_running = with_places(whole(), "parameters", {WEIGHT: {**tensor(1), "after_run": "digest is x"}})
    assert list(check_loads(changed_by_running, whole())) == []
    assert list(check_loads(whole(), None)) == []  # that nothing came is told of by itself


def test_two_loads_that_differ_are_an_error_with_its_first_place() -> None:
    (check,) = check_loads(whole(), with_places(whole(), "parameters", {WEIGHT: tensor(9)}))
    (explained,) = explain_checks([check], Evidence())
    assert (explained.id, explained.status) == ("parity.loads", Status.FAILED)
    (finding,) = explained.findings
    assert (finding.code, finding.location) == ("parameters.loads_differ", WEIGHT)
    assert finding.message == f"two loads of the candidate differ: {WEIGHT} differs in its bits"
    assert str(finding.cause).startswith("loads that differ: the loader gives another model when it is called again")
    assert "from the checkpoint and the arguments alone" in str(finding.remedy)


@pytest.mark.parametrize(
    ("section", "place", "seen"),
    [
        ("config", "config.hidden_size", {"value": 3}),
        ("modules", "(model)", {"class": "Gemma3", "training": True}),
        ("buffers", BUFFER, tensor(7)),
    ],
)
def test_two_loads_may_differ_in_any_state(section: str, place: str, seen: Observation) -> None:
    (check,) = check_loads(whole(), with_places(whole(), section, {place: seen}))
    assert [(finding.section, finding.location) for finding in check.findings] == [(section, place)]


def placed(device: str, **fields: str) -> Fingerprint:
    """A model on one device, with hooks of accelerate's where that is no CPU."""
    is_spread = device != "cpu"
    module = {"class": "Gemma3", "hooks": int(is_spread), "overrides": "forward" if is_spread else ""}
    made = with_places(whole(), "parameters", {WEIGHT: tensor(1, device=device, hooks="0", **fields)})
    made = with_places(made, "buffers", {BUFFER: tensor(2, device=device)})
    return with_places(made, "modules", {"(model)": module})


def test_two_loads_on_other_devices_are_no_check() -> None:
    """`--device auto` spreads a model by the memory that is free at the time."""
    moved = with_places(whole(), "buffers", {BUFFER: tensor(2, device="cuda:0")})
    assert list(check_loads(with_places(whole(), "buffers", {BUFFER: tensor(2, device="cpu")}), moved)) == []
    assert list(check_loads(placed("cpu"), placed("cuda:0", stride="[2]", same_memory_as=WEIGHT))) == []


@pytest.mark.parametrize(
    ("section", "place", "seen"),
    [
        ("parameters", WEIGHT, tensor(9, device="cuda:0", hooks="0")),
        ("parameters", WEIGHT, tensor(1, device="cuda:0", hooks="1")),  # accelerate puts none on a parameter
        ("modules", "(model)", {"class": "Other", "hooks": 0, "overrides": ""}),
    ],
)
def test_placement_hides_no_other_difference(section: str, place: str, seen: Observation) -> None:
    (check,) = check_loads(placed("cpu"), with_places(placed("cuda:0"), section, {place: seen}))
    assert check.status is Status.FAILED
    assert [(finding.severity, finding.location) for finding in check.findings] == [("error", place)]


def test_hooks_of_a_model_that_stays_where_it_is_are_compared() -> None:
    hooked = with_places(placed("cpu"), "modules", {"(model)": {"class": "Gemma3", "hooks": 1, "overrides": ""}})
    (check,) = check_loads(placed("cpu"), hooked)
    assert check.findings[0].message == "two loads of the candidate differ: (model): hooks is 1, expected 0"


def test_a_second_load_that_raises_is_a_difference() -> None:
    (check,) = check_loads(whole(), raising(without(whole(), "config"), "config"))
    (explained,) = explain_checks([check], Evidence())
    assert explained.status is Status.FAILED
    (finding,) = explained.findings
    assert (finding.code, finding.actual) == ("config.loads_differ", "model.py:7")
    assert finding.message == "two loads of the candidate differ: config of the second load raises KeyError: 'x'"
    assert str(finding.cause).startswith("loads that differ: ")


def test_a_section_that_raises_in_both_loads_is_told_of_by_its_own_check() -> None:
    raised = raising(without(whole(), "config"), "config")
    assert list(check_loads(raised, raised)) == []


@pytest.mark.parametrize("name", ["config", "parameters", "buffers"])
def test_a_round_trip_from_a_state_that_is_not_known_is_inconclusive(name: str) -> None:
    comparison = Comparison(
        plan=PLAN,
        reference=Side(fingerprint=REFERENCE),
        candidate=Side(fingerprint=whole()),
        saved=raising(without(whole(), name), name),
    )
    check = next(check for check in judge(comparison) if check.id == "parity.round_trip")
    assert (check.status, check.findings) == (Status.INCONCLUSIVE, ())
    assert check.reason == f"evidence is missing: {name} of the candidate before it was saved"
