"""The judge: equal is passed, different is failed, and what is not there is never a pass."""

from dataclasses import replace

import pytest

from tests.theworld_validate.parity.documents import (
    BUFFER,
    EMBED,
    NORM,
    PLAN,
    PROBES,
    WEIGHT,
    digest_of,
    judged,
    raising,
    tensor,
    whole,
    with_places,
    without,
)
from tests.theworld_validate.rendering.sample_reports import make_report
from theworld_validate.compare.contradictions import contradictions
from theworld_validate.documents.observations import EMPTY, Failure, Fingerprint, Section
from theworld_validate.parity.judge import NOISE, NOTHING, QUIET, REFERENCE_RAISES, Comparison, Side, check_files, judge
from theworld_validate.parity.times import seconds_of, time_part
from theworld_validate.rendering.findings import find_roots
from theworld_validate.results import CheckResult, Status, combine
from theworld_validate.workers.child import Job
from theworld_validate.workers.messages import Answer, Part
from theworld_validate.workers.pool import Outcome

PASSED, FAILED, INCONCLUSIVE = Status.PASSED, Status.FAILED, Status.INCONCLUSIVE
ALL_CHECKS = [
    "control",
    "files",
    "config",
    "modules",
    "parameters",
    "buffers",
    "globals",
    "gradients",
    "probe.text",
    "probe.image",
    "round_trip",
]
STATE_CHECKS = ALL_CHECKS[2:8]


def other_than_passed(checks: dict[str, CheckResult]) -> dict[str, Status]:
    return {name: check.status for name, check in checks.items() if check.status is not PASSED}


def test_equal_sides_pass_in_every_check() -> None:
    checks = judged(whole(), whole(), control=whole())
    assert list(checks) == ALL_CHECKS
    assert other_than_passed(checks) == {}
    assert not [finding for check in checks.values() for finding in check.findings]
    assert checks["parameters"].measurements == {"tensors_compared": 1, "compared_bytes": 4}
    assert checks["config"].measurements == {"compared": 1}
    assert checks["probe.image"].measurements == {
        "probe": "image",
        "tensors_compared": 5,
        "module_outputs_compared": 2,
        "outputs_compared": 2,
        "generations_compared": 1,
        "differing_outputs": 0,
        "divergence": {},
    }


def test_each_check_has_the_seconds_of_what_it_compares() -> None:
    image, state = (
        whole().subset("trace", "image/"),
        {name: whole().sections[name] for name in ("parameters", "buffers")},
    )
    steps = [
        ("first", Fingerprint(sections=state), 2.0),
        ("first", Fingerprint(sections={"trace": image}), 3.0),
        ("first", Fingerprint(sections={"outputs": whole().subset("outputs", "image/")}), 0.5),
        ("control", Fingerprint(sections={"trace": image}), 4.0),
    ]
    outcome = Outcome(job=Job(name="reference", function="a:b"))
    for run, fingerprint, seconds in steps:
        outcome.messages += time_part(Part(run=run, fingerprint=fingerprint), seconds)
    outcome.messages.append(Answer(values={"part_seconds": 9.0}))  # of no part
    seconds = seconds_of({"reference": outcome, "candidate": outcome}, control="control")
    side = Side(fingerprint=whole())
    comparison = Comparison(plan=PLAN, reference=side, candidate=side, control=side, seconds=seconds)
    took = {check.id.removeprefix("parity."): check.seconds for check in judge(comparison) if check.seconds}
    assert took == {"control": 8.0, "parameters": 2.0, "buffers": 2.0, "probe.image": 7.0}


@pytest.mark.parametrize(
    ("section", "places", "check", "code"),
    [
        ("config", {"config.hidden_size": {"value": 3}}, "config", "config.value"),
        ("modules", {"(model)": {"class": "Gemma3", "training": True}}, "modules", "modules.training"),
        ("parameters", {WEIGHT: tensor(9)}, "parameters", "parameters.digest"),
        ("buffers", {BUFFER: tensor(2, dtype="float32")}, "buffers", "buffers.dtype"),
        ("globals", {"rng_state_cpu": {"value": "b"}}, "globals", "globals.value"),
        ("gradients", {WEIGHT: tensor(9)}, "gradients", "gradients.digest"),
        ("trace", {f"text/{NORM}": {"digest": digest_of(9)}}, "probe.text", "trace.digest"),
        ("outputs", {"text/logits": {"digest": digest_of(9)}}, "probe.text", "outputs.digest"),
        ("generation", {"text/greedy": {"digest": digest_of(9)}}, "probe.text", "generation.digest"),
    ],
)
def test_a_difference_fails_its_check_and_no_other(section: str, places: Section, check: str, code: str) -> None:
    checks = judged(whole(), with_places(whole(), section, places), control=whole())
    also = {"round_trip": FAILED} if section in ("config", "parameters", "buffers") else {}  # it came back unspoilt
    assert other_than_passed(checks) == {check: FAILED, **also}
    (finding,) = checks[check].findings
    assert (finding.code, finding.section, finding.field) == (code, section, code.partition(".")[2])


def test_a_device_is_shown_and_no_failure() -> None:
    moved = with_places(whole(), "buffers", {BUFFER: tensor(2, device="cuda:0")})
    check = judged(with_places(whole(), "buffers", {BUFFER: tensor(2, device="cpu")}), moved)["buffers"]
    assert check.status is PASSED
    assert [(finding.code, finding.severity) for finding in check.findings] == [("buffers.device", "warning")]


def test_the_first_place_of_a_trace_is_named_and_how_far_it_spreads() -> None:
    spoilt = with_places(whole(), "trace", {f"text/{name}": {"digest": digest_of(9)} for name in (EMBED, NORM)})
    check = judged(whole(), spoilt)["probe.text"]
    (finding,) = check.findings
    assert finding.location == f"text/{EMBED}"
    assert finding.message == f"text/{EMBED} differs in its bits (first of 2 of 2 places)"
    assert check.measurements["divergence"] == {"modules": [EMBED, NORM], "outputs": [1, 1], "differing": [1, 1]}


# A whole section that is not there.


@pytest.mark.parametrize("name", STATE_CHECKS)
@pytest.mark.parametrize(
    ("is_gone", "whose"),
    [((True, False), "the reference"), ((False, True), "the candidate"), ((True, True), "both sides")],
)
def test_a_missing_section_is_inconclusive(name: str, is_gone: tuple[bool, bool], whose: str) -> None:
    """Equal absence on both sides is absence."""
    sides = [without(whole(), name) if gone else whole() for gone in is_gone]
    check = judged(*sides)[name]
    assert (check.status, check.reason) == (INCONCLUSIVE, f"evidence is missing: {name} of {whose}")
    assert check.findings == ()


@pytest.mark.parametrize("name", [*STATE_CHECKS, "round_trip"])
@pytest.mark.parametrize(
    ("raises", "status", "who"),
    [
        ((False, True), FAILED, ["candidate"]),
        ((True, False), INCONCLUSIVE, ["reference"]),
        ((True, True), INCONCLUSIVE, ["reference", "candidate"]),
    ],
)
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_section_that_raises_is_the_candidates_fault_alone_or_proves_nothing(
    name: str, raises: tuple[bool, bool], status: Status, who: list[str], is_gone: bool
) -> None:
    """Whether nothing of it was observed, or only a part."""
    spoilt = raising(without(whole(), name) if is_gone else whole(), name)
    check = judged(*[spoilt if it else whole() for it in raises])[name]
    assert check.status is status
    assert check.reason == (None if status is FAILED else REFERENCE_RAISES)
    assert [finding.code for finding in check.findings] == [f"{name}.raised"] * len(who)
    for finding, side in zip(check.findings, who, strict=True):
        assert side in finding.message
        assert "KeyError: 'x'" in finding.message
        assert finding.actual == "model.py:7"
        assert finding.cause == "its own code fails at model.py:7: x['x']"


def test_what_a_library_raised_is_not_told_as_the_candidates_line() -> None:
    """There is nothing to mend in the library: the signature that it read is the hint."""
    called = "Wrapper.forward(self, *args, **kwargs)"
    failure = Failure(section="outputs", probe="text", error="ValueError: unused", place="utils.py:1965",
                      code="raise ValueError(", library="transformers", called=called)  # fmt: skip
    spoilt = replace(without(whole(), "outputs", "text/"), failures=(failure,))
    (finding,) = judged(whole(), spoilt)["probe.text"].findings
    assert finding.cause == (
        "transformers raised it, called by the candidate, at utils.py:1965: raise ValueError(; what was called is "
        f"{called}"
    )
    assert (
        finding.remedy == "let the candidate take what the base class takes, by the same names in forward's signature"
    )


def test_another_error_of_a_library_is_not_told_as_one_of_forwards_signature() -> None:
    """As memory that runs out while the model is saved."""
    failure = Failure(section="round_trip", error="save_pretrained raises OutOfMemoryError", place="module.py:1",
                      library="transformers", function="TheWorld.save_pretrained")  # fmt: skip
    (finding,) = judged(whole(), replace(without(whole(), "round_trip"), failures=(failure,)))["round_trip"].findings
    assert str(finding.cause).endswith("at module.py:1; what was called is TheWorld.save_pretrained")
    assert finding.remedy == "run TheWorld.save_pretrained alone on the candidate"


def test_one_error_of_several_steps_is_told_once() -> None:
    spoilt = raising(raising(without(whole(), "outputs", "text/"), "outputs", "text"), "outputs", "text")
    check = judged(whole(), spoilt)["probe.text"]
    assert [finding.code for finding in check.findings] == ["outputs.raised"]


def test_no_buffers_are_none_and_no_parameters_are_no_evidence() -> None:
    """A model without buffers is a model; one without parameters was not observed."""

    def bare(section: str) -> Fingerprint:
        made = whole()
        return replace(made, sections={**made.sections, section: {}}, num_bytes={**made.num_bytes, section: 0})

    for name, status, reason in (
        ("buffers", PASSED, "neither side has any"),
        ("globals", PASSED, "neither side has any"),
        ("parameters", INCONCLUSIVE, NOTHING),
        ("config", INCONCLUSIVE, NOTHING),
        ("modules", INCONCLUSIVE, NOTHING),
        ("gradients", INCONCLUSIVE, NOTHING),
    ):
        check = judged(bare(name), bare(name))[name]
        assert (name, check.status, check.reason) == (name, status, reason)


def test_losses_alone_are_no_gradients() -> None:
    """Of a model that is frozen as a whole there are still losses, and the gradient of given embeddings."""
    frozen: Section = {
        "(inputs_embeds)": tensor(3),
        WEIGHT: {"gradient": "none"},
        "(loss)": tensor(4),
        "(loss)(text)": tensor(5),
    }
    sides = [replace(whole(), sections={**whole().sections, "gradients": frozen}) for _ in range(2)]
    check = judged(*sides)["gradients"]
    assert (check.status, check.reason) == (INCONCLUSIVE, NOTHING)
    assert check.measurements["tensors_compared"] == 0
    check = judged(sides[0], with_places(sides[1], "gradients", {"(loss)": tensor(9)}))["gradients"]
    assert (check.status, [finding.location for finding in check.findings]) == (FAILED, ["(loss)"])


def test_buffers_of_one_side_alone_are_a_failure() -> None:
    bare = replace(whole(), sections={**whole().sections, "buffers": {}})
    assert judged(bare, whole())["buffers"].status is FAILED
    assert judged(whole(), bare)["buffers"].status is FAILED


# A probe that is not there.


@pytest.mark.parametrize("section", ["trace", "outputs", "generation"])
@pytest.mark.parametrize(("is_gone", "whose"), [((True, False), "the reference"), ((False, True), "the candidate")])
def test_a_probe_that_one_side_was_not_asked_is_inconclusive(
    section: str, is_gone: tuple[bool, bool], whose: str
) -> None:
    checks = judged(*[without(whole(), section, "text/") if gone else whole() for gone in is_gone])
    assert other_than_passed(checks) == {"probe.text": INCONCLUSIVE}
    assert checks["probe.text"].reason == f"evidence is missing: {section} of text of {whose}"
    assert checks["probe.text"].findings == ()


@pytest.mark.parametrize("section", ["trace", "outputs"])
def test_a_probe_missing_on_both_sides_is_inconclusive(section: str) -> None:
    bare = without(whole(), section, "text/")
    checks = judged(bare, bare, control=bare)
    assert other_than_passed(checks) == {"probe.text": INCONCLUSIVE}
    assert checks["probe.text"].reason == f"evidence is missing: {section} of text of both sides"


def test_generation_is_not_asked_of_every_probe() -> None:
    bare = without(whole(), "generation", "text/")
    checks = judged(bare, bare, control=bare)
    assert other_than_passed(checks) == {}
    assert checks["probe.text"].measurements["generations_compared"] == 0


def test_generation_that_is_missing_altogether_is_inconclusive() -> None:
    bare = without(whole(), "generation")
    checks = judged(bare, bare, control=bare)
    assert other_than_passed(checks) == dict.fromkeys(("control", "probe.text", "probe.image"), INCONCLUSIVE)
    assert checks["control"].reason == "the reference was not run twice: generation is missing"
    assert checks["probe.text"].reason == "evidence is missing: generation of text of both sides"


def test_a_probe_of_the_plan_that_nobody_answered() -> None:
    plan = replace(PLAN, probes=(*PROBES, "two_images"))
    checks = judged(whole(), whole(), plan=plan)
    assert other_than_passed(checks) == {"probe.two_images": INCONCLUSIVE}


@pytest.mark.parametrize("section", ["trace", "outputs", "generation"])
@pytest.mark.parametrize(
    ("raises", "status"), [((False, True), FAILED), ((True, False), INCONCLUSIVE), ((True, True), INCONCLUSIVE)]
)
def test_a_probe_that_raises(section: str, raises: tuple[bool, bool], status: Status) -> None:
    spoilt = raising(without(whole(), section, "text/"), section, "text")
    check = judged(*[spoilt if it else whole() for it in raises])["probe.text"]
    assert check.status is status
    assert check.reason == (None if status is FAILED else REFERENCE_RAISES)
    assert {finding.code for finding in check.findings} == {f"{section}.raised"}  # what it could not say is no finding
    assert {finding.location for finding in check.findings} == {"text"}


def test_another_probes_error_is_not_this_ones() -> None:
    checks = judged(whole(), raising(without(whole(), "trace", "text/"), "trace", "text"))
    assert other_than_passed(checks) == {"probe.text": FAILED}


def test_a_difference_beside_missing_evidence_is_still_a_failure() -> None:
    """The trace differs, and the worker ended before it said what comes out."""
    ended = without(with_places(whole(), "trace", {f"text/{NORM}": {"digest": digest_of(9)}}), "outputs")
    checks = judged(whole(), ended, candidate_ended="was killed by SIGKILL")
    assert checks["probe.text"].status is FAILED
    assert checks["probe.image"].status is INCONCLUSIVE


# Values that are no numbers.


def non_finite(fingerprint: Fingerprint) -> Fingerprint:
    return with_places(fingerprint, "outputs", {"text/non_finite": {"non_finite": 4, "first": "layers.3"}})


def test_equal_values_that_are_not_finite_prove_nothing() -> None:
    checks = judged(non_finite(whole()), non_finite(whole()), control=non_finite(whole()))
    assert other_than_passed(checks) == {"probe.text": INCONCLUSIVE}
    assert checks["probe.text"].reason == "the reference's own outputs are not finite: they prove nothing"
    assert [finding.location for finding in checks["probe.text"].findings] == ["text/layers.3"] * 2


def test_a_candidate_that_is_not_finite_fails_where_it_first_is_not() -> None:
    check = judged(whole(), non_finite(whole()))["probe.text"]
    assert check.status is FAILED
    (finding,) = check.findings
    assert (finding.code, finding.location, finding.actual) == ("outputs.non_finite", "text/layers.3", 4)
    assert finding.message == "text: the candidate's outputs are not finite; the first such module is layers.3"


def test_a_reference_that_is_not_finite_proves_nothing() -> None:
    check = judged(non_finite(whole()), whole())["probe.text"]
    assert check.status is INCONCLUSIVE


# The control.


@pytest.mark.parametrize(
    ("section", "place", "touches"),
    [
        ("trace", f"text/{NORM}", "probe.text"),
        ("outputs", "image/logits", "probe.image"),
        ("generation", "text/greedy", "probe.text"),
        ("gradients", WEIGHT, "gradients"),
    ],
)
def test_a_control_that_differs_makes_what_it_touches_inconclusive(section: str, place: str, touches: str) -> None:
    again = with_places(whole(), section, {place: tensor(9)})
    checks = judged(whole(), whole(), control=again)
    assert other_than_passed(checks) == {"control": INCONCLUSIVE, touches: INCONCLUSIVE}
    assert checks["control"].reason == "two runs of the reference differ"
    assert "not deterministic" in (checks["control"].findings[0].cause or "")
    assert checks[touches].reason is not None
    assert checks[touches].reason.startswith("the control differs")


def test_a_candidate_that_differs_where_the_control_does_is_not_blamed() -> None:
    other = with_places(whole(), "outputs", {"text/logits": {"digest": digest_of(8)}})
    again = with_places(whole(), "outputs", {"text/logits": {"digest": digest_of(9)}})
    assert judged(whole(), other, control=again)["probe.text"].status is INCONCLUSIVE


def test_noise_of_the_reference_is_one_cause() -> None:
    """Whatever differs in what the control marks follows from the control's first difference; nothing else does."""

    def noisy(number: int) -> Fingerprint:
        seen = with_places(whole(), "trace", {f"text/{NORM}": tensor(number)})
        seen = with_places(seen, "outputs", {"text/logits": {"digest": digest_of(number)}})
        return with_places(seen, "gradients", {WEIGHT: tensor(number)})

    other = with_places(noisy(8), "outputs", {"image/logits": {"digest": digest_of(8)}})
    checks = judged(whole(), other, control=noisy(9))
    root, *others = checks["control"].findings
    assert (root.explained_by, root.cause, root.remedy) == (None, NOISE, QUIET)
    following = [*others, *checks["probe.text"].findings, *checks["gradients"].findings]
    assert len(following) >= 5
    assert {(f.explained_by, f.cause, f.remedy) for f in following} == {(root.key, None, None)}
    assert [f.explained_by for f in checks["probe.image"].findings] == [None]
    assert checks["probe.image"].status is FAILED
    report = make_report([replace(check, id=f"parity.{name}") for name, check in checks.items()])
    roots = find_roots(report)
    assert [(found.found.check, len(found.follows)) for found in roots] == [
        ("parity.control", len(following)),
        ("parity.probe.image", 0),
    ]
    assert contradictions([finding for check in report.checks for finding in check.findings]) == ()


@pytest.mark.parametrize("section", ["trace", "outputs", "generation", "gradients"])
def test_a_control_that_is_not_whole_is_inconclusive(section: str) -> None:
    check = judged(whole(), whole(), control=without(whole(), section))["control"]
    assert (check.status, check.reason) == (INCONCLUSIVE, f"the reference was not run twice: {section} is missing")


def test_a_control_of_nothing_is_inconclusive() -> None:
    bare = replace(
        whole(), sections={**whole().sections, "trace": {}, "outputs": {}, "generation": {}, "gradients": {}}
    )
    check = judged(bare, bare, control=bare)["control"]
    assert (check.status, check.reason) == (INCONCLUSIVE, NOTHING)


# Workers that ended.


def test_a_reference_that_ended_says_nothing_of_the_candidate() -> None:
    checks = judged(EMPTY, whole(), control=EMPTY, reference_ended="the process exited with code 0, at: loading")
    assert other_than_passed(checks) == dict.fromkeys(ALL_CHECKS, INCONCLUSIVE)
    assert checks["control"].reason == "the process exited with code 0, at: loading"
    assert checks["config"].reason == (
        "evidence is missing: config of the reference (the reference: the process exited with code 0, at: loading)"
    )
    assert not [finding for check in checks.values() for finding in check.findings]


def test_a_candidate_that_ended_is_judged_by_what_it_delivered() -> None:
    """All of the state and the first probe; then the process is gone."""
    partial = whole()
    for section in ("trace", "outputs", "generation"):
        partial = without(partial, section, "image/")
    partial = without(without(partial, "gradients"), "round_trip")
    checks = judged(whole(), partial, control=whole(), candidate_ended="the process was killed, at: image")
    missing = dict.fromkeys(("gradients", "probe.image", "round_trip"), INCONCLUSIVE)
    assert other_than_passed(checks) == missing
    assert combine([check.status for check in checks.values()]) is INCONCLUSIVE
    assert checks["probe.image"].reason == (
        "evidence is missing: trace of image of the candidate (the candidate: the process was killed, at: image)"
    )
    assert not [finding for check in checks.values() for finding in check.findings]


def test_nothing_on_both_sides_is_never_a_pass() -> None:
    checks = judged(EMPTY, EMPTY, control=EMPTY)
    assert list(checks) == ALL_CHECKS
    assert {check.status for check in checks.values()} == {INCONCLUSIVE}


def test_a_plan_of_no_probes_is_inconclusive() -> None:
    plan = replace(PLAN, probes=())
    bare = whole()
    for section in ("trace", "outputs", "generation", "gradients"):
        bare = replace(bare, sections={**bare.sections, section: {}})
    checks = judged(bare, bare, control=bare, plan=plan)
    assert checks["control"].status is INCONCLUSIVE
    assert checks["control"].reason == NOTHING


# The files.


def test_files_of_two_sides_must_be_the_same() -> None:
    check = judged(whole(), with_places(whole(), "files", {"(summary)": {"keys": 2, "bytes": 4}}))["files"]
    assert check.status is FAILED
    assert [finding.code for finding in check.findings] == ["files.keys"]


@pytest.mark.parametrize(
    ("is_gone", "whose"),
    [((True, False), "the reference"), ((False, True), "the candidate"), ((True, True), "both sides")],
)
def test_files_that_were_not_read_are_inconclusive(is_gone: tuple[bool, bool], whose: str) -> None:
    check = judged(*[without(whole(), "files") if gone else whole() for gone in is_gone])["files"]
    assert (check.status, check.reason) == (INCONCLUSIVE, f"evidence is missing: files of {whose}")


@pytest.mark.parametrize(
    ("observed", "status", "reason"),
    [
        ({"(summary)": {"keys": 3}}, PASSED, None),
        ({"(summary)": {"keys": 3}, "a": {"problem": "cast", "detail": None}}, PASSED, None),
        ({"(summary)": {"keys": 3}, "a": {"problem": "missing", "detail": None}}, FAILED, None),
        ({"(summary)": {"keys": 0}}, INCONCLUSIVE, NOTHING),
        ({}, INCONCLUSIVE, NOTHING),
    ],
)
def test_a_checkpoints_files(observed: Section, status: Status, reason: str | None) -> None:
    check = check_files(observed)
    assert (check.status, check.reason) == (status, reason)


def test_the_checkpoint_that_both_were_loaded_from_stands_for_both() -> None:
    comparison = Comparison(
        plan=PLAN,
        reference=Side(fingerprint=without(whole(), "files")),
        candidate=Side(fingerprint=without(whole(), "files")),
        files={"(summary)": {"keys": 3}},
    )
    (check,) = [check for check in judge(comparison) if check.id == "parity.files"]
    assert (check.status, check.measurements) == (PASSED, {"keys": 3})
