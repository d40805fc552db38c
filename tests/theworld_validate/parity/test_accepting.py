"""Parity's checks when rounding is accepted: what passes, what fails, and which root is named."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.compare.rounded import Tensors, fingerprint_of, rounded, truth_tensors, whole, with_state
from theworld_validate.documents.fingerprint import (
    FingerprintFile,
    parse_fingerprint,
    truth_beside,
    why_not_compared,
    write_fingerprint,
)
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.parity.accepting import accept_equivalent, settle
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.diff_files import compare_files, joint_plan
from theworld_validate.parity.judge import Comparison, Side
from theworld_validate.results import CheckResult, InputError, Status, combine, exit_code

NUMBERS = truth_tensors()
TRUTH = whole(fingerprint_of(NUMBERS))
REFERENCE = whole(fingerprint_of(rounded(NUMBERS)))
EQUIVALENT = whole(fingerprint_of(rounded(NUMBERS, seed=1)))
WRONG = whole(fingerprint_of(rounded(NUMBERS, seed=1, times=9, only="layers.1")))


def compared(candidate: FingerprintFile, truth: FingerprintFile | None = TRUTH) -> dict[str, CheckResult]:
    checks = compare_files(REFERENCE, candidate, accept_rounding=True, truth=truth)
    return {check.id: check for check in checks}


def statuses(checks: dict[str, CheckResult]) -> set[str]:
    return {name for name, check in checks.items() if check.status is not Status.PASSED}


def test_rounding_passes_and_says_so_and_is_a_difference_to_who_did_not_ask() -> None:
    checks = compared(EQUIVALENT)
    assert statuses(checks) == set()
    judged = checks["parity.judgement"]
    assert judged.measurements["verdict"] == "equivalent"
    assert judged.reason is not None
    assert judged.reason.startswith("equivalent: the worst place is 1.")
    assert "not bit for bit: the worst place is" in str(checks["parity.probe.p"].reason)
    strict = {check.id for check in compare_files(REFERENCE, EQUIVALENT) if check.status is Status.FAILED}
    assert strict == {"parity.probe.p", "parity.gradients"}


def test_equal_files_are_identical() -> None:
    checks = compared(REFERENCE, None)
    assert statuses(checks) == set()
    assert checks["parity.judgement"].reason == "identical: equal bit for bit"


def test_the_first_jump_is_the_root_and_the_rest_follows_from_it() -> None:
    checks = compared(WRONG)
    assert statuses(checks) == {"parity.judgement", "parity.probe.p", "parity.gradients"}
    (root,) = [f for check in checks.values() for f in check.findings if f.severity == "error" and not f.explained_by]
    assert root.key == "trace.ratio@p/layers.1.self_attn"
    assert root.cause is not None


def test_a_training_loss_that_is_5_percent_off_is_no_rounding() -> None:
    def with_loss(base: Tensors, gradients: Tensors, loss: float) -> FingerprintFile:
        return whole(
            fingerprint_of({**base, "gradients": {**gradients["gradients"], "(loss)(text)": torch.tensor(loss)}})
        )

    far = [rounded(NUMBERS, seed=seed, times=10) for seed in (8, 9)]  # gradients that rounding moves by 2 %
    reference, truth = with_loss(rounded(NUMBERS), far[0], 2.5), with_loss(NUMBERS, NUMBERS, 2.5)
    for loss, expected in ((2.5 * (1 + 2.0**-9), set()), (2.5 * 1.05, {"parity.judgement", "parity.gradients"})):
        candidate = with_loss(rounded(NUMBERS, seed=1), far[1], loss)
        checks = {c.id: c for c in compare_files(reference, candidate, accept_rounding=True, truth=truth)}
        assert statuses(checks) == expected
    (error,) = [finding for finding in checks["parity.gradients"].findings if finding.severity == "error"]
    assert error.location == "(loss)(text)"


def test_a_difference_of_computing_is_the_root_of_what_it_spoils_and_else_shown() -> None:
    for base, expected in ((EQUIVALENT, "warning"), (WRONG, "error")):
        named = with_state(base.fingerprint, "modules", "layers.1.self_attn", **{"class": "b.Fused"})
        checks = compared(whole(named))
        (finding,) = checks["parity.modules"].findings
        assert (finding.code, finding.severity) == ("modules.class", expected)
        assert (checks["parity.modules"].status is Status.PASSED) == (expected == "warning")
        if expected == "error":
            (jump,) = [f for f in checks["parity.probe.p"].findings if f.section == "trace"]
            assert jump.explained_by == finding.key


def test_a_weight_is_never_rounding() -> None:
    other = with_state(EQUIVALENT.fingerprint, "parameters", "layers.0.mlp.weight", digest="f" * 32)
    assert "parity.parameters" in statuses(compared(whole(other)))


def test_without_a_truth_nobody_can_say() -> None:
    checks = compared(EQUIVALENT, None)
    assert {checks[name].status for name in statuses(checks)} == {Status.INCONCLUSIVE}
    assert "there is no truth" in str(checks["parity.judgement"].reason)
    assert exit_code(combine([check.status for check in checks.values()])) == 3


def accepted(control: Fingerprint, truth: Side | None) -> dict[str, CheckResult]:
    comparison = Comparison(
        plan=joint_plan(REFERENCE, EQUIVALENT),
        reference=Side(fingerprint=REFERENCE.fingerprint),
        candidate=Side(fingerprint=EQUIVALENT.fingerprint),
        control=Side(fingerprint=control),
    )
    made = accept_equivalent(comparison, truth)
    explained = explain_checks(made.checks, gather_evidence(comparison, {}))
    return {check.id: check for check in settle(explained, made.judgement)}


def test_a_control_that_rounds_otherwise_is_noise_and_one_that_is_another_proves_nothing() -> None:
    truth = Side(fingerprint=TRUTH.fingerprint)
    numbers = ("trace", "outputs", "generation", "gradients")

    def run_of(seen: Fingerprint) -> Fingerprint:
        return replace(seen, sections={name: seen.sections[name] for name in numbers})

    noisy = accepted(run_of(EQUIVALENT.fingerprint), truth)["parity.control"]
    assert (noisy.status, {f.severity for f in noisy.findings}) == (Status.PASSED, {"warning"})
    assert accepted(run_of(WRONG.fingerprint), truth)["parity.control"].status is Status.INCONCLUSIVE


def test_a_truth_that_was_not_delivered_is_named() -> None:
    checks = accepted(REFERENCE.fingerprint, Side(fingerprint=Fingerprint(sections={}), ended="was killed"))
    assert "the truth was not delivered: was killed" in str(checks["parity.judgement"].reason)


def test_diff_takes_the_truth_from_beside_the_reference(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("a", "b")}
    write_fingerprint(REFERENCE, files["a"])
    write_fingerprint(EQUIVALENT, files["b"])
    arguments = ["diff", str(files["a"]), str(files["b"]), "--quiet"]
    assert invoke(*arguments).exit_code == 1
    assert invoke(*arguments, "--accept", "equivalent").exit_code == 3
    write_fingerprint(TRUTH, truth_beside(files["a"]))
    assert invoke(*arguments, "--accept", "equivalent").exit_code == 0
    write_fingerprint(WRONG, files["b"])
    assert invoke(*arguments, "--accept", "equivalent").exit_code == 1


@pytest.mark.parametrize("seed", range(8))
def test_a_file_from_which_anything_is_cut_is_never_equivalent(seed: int) -> None:
    """Sketches, places, sections or observations gone: refused, undecidable or different."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(EQUIVALENT)))
    random = torch.Generator().manual_seed(seed)

    def choose(names: list[str]) -> str:
        return names[int(torch.randint(len(names), (1,), generator=random))]

    sections = values["sections"]
    # Where both sides are equal bit for bit no sketch is asked for.
    numbers = {
        seen["digest"]
        for name in ("trace", "outputs", "gradients")
        for place, seen in sections[name].items()
        if seen["digest"] != REFERENCE.sections[name][place]["digest"]
    }
    if seed % 2:
        del values["sketches"][choose(sorted(numbers & values["sketches"].keys()))]
    else:
        name = choose(["trace", "outputs", "gradients"])
        del sections[name][choose(sorted(sections[name]))]
        values["num_observations"][name] -= 1
    checks = compared(parse_fingerprint(values, source="cut.json"))
    assert checks["parity.judgement"].measurements["verdict"] in ("undecidable", "different")
    assert combine([check.status for check in checks.values()]) in (Status.INCONCLUSIVE, Status.FAILED)


@pytest.mark.parametrize("values", ["AAAA", "no base64"])
def test_a_damaged_sketch_is_refused_in_one_line(values: str) -> None:
    damaged: dict[str, Any] = json.loads(json.dumps(asdict(EQUIVALENT)))
    name = next(iter(damaged["sketches"]))
    damaged["sketches"][name]["values"] = values
    with pytest.raises(InputError, match=rf"here.json: sketch {name}: "):
        parse_fingerprint(damaged, source="here.json")


def test_a_choice_that_cannot_be_is_refused_in_one_line() -> None:
    damaged = json.loads(json.dumps(asdict(REFERENCE)))
    damaged["choices"] = {"p/greedy_logits[0]": [{"token": -1, "best": []}]}
    with pytest.raises(InputError, match=r"here.json: choice p/greedy_logits\[0\]: a token is no id; make it again"):
        parse_fingerprint(damaged, source="here.json")
    damaged["choices"] = {"p/no_such": []}
    with pytest.raises(InputError, match=r"choice p/no_such: there are no logits of that name"):
        parse_fingerprint(damaged, source="here.json")


def test_a_file_of_the_schema_before_is_read() -> None:
    old: dict[str, Any] = json.loads(json.dumps(asdict(REFERENCE)))
    del old["sketch"], old["sketches"]
    old["schema"] = "theworld-fingerprint/2"
    read = parse_fingerprint(old, source="old.json")
    assert read.sketches == {}
    assert {c.status for c in compare_files(read, read)} == {Status.PASSED}


def test_two_older_files_are_compared_if_they_observe_the_same() -> None:
    older, newer = (replace(REFERENCE, schema=f"theworld-fingerprint/{number}") for number in (3, 4))
    assert "(theworld-fingerprint/3)" in str(why_not_compared(newer, older))
    assert why_not_compared(older, older) is None


@pytest.mark.parametrize("schema", ["theworld-fingerprint/2", "theworld-fingerprint/3", "theworld-fingerprint/4"])
def test_a_file_that_observes_less_is_compared_with_no_newer_one(schema: str, tmp_path: Path) -> None:
    old = replace(REFERENCE, schema=schema)
    places = [write_fingerprint(file, tmp_path / name) for file, name in ((old, "old.json"), (REFERENCE, "new.json"))]
    for pair in (places, places[::-1]):
        said = f"was made by an earlier version ({schema}), which observes less than"
        assert_input_error(invoke("diff", *pair), said, "make it again with theworld-validate fingerprint")
    with pytest.raises(InputError, match="observes less than"):
        list(compare_files(REFERENCE, REFERENCE, accept_rounding=True, truth=old))
