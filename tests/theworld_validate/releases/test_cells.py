"""One probe in two releases, from planted documents: rounding, a bug, and what proves nothing."""

import hashlib
from dataclasses import replace

import pytest
import torch

from theworld_validate.documents.observations import Failure, Fingerprint, Section
from theworld_validate.documents.sketches import Sketch
from theworld_validate.fingerprint.sketch import sketch_tensor
from theworld_validate.releases.cells import judge_cell, needs_truth
from theworld_validate.releases.judged import GRADIENTS, Verdict
from theworld_validate.releases.seen import Truth

TRUE = torch.randn(4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OTHERWISE = TRUE * (1 + 5e-8 * torch.randn(4096, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
RAISES = Failure(section="generation", probe="text", error="IndexError: 256", place="f.py:1")


def _fingerprint(logits: torch.Tensor, norm: torch.Tensor | None = None, **more: torch.Tensor) -> Fingerprint:
    """A probe "text" with one module, logits and, by `more`, other answers."""
    sketches: dict[str, Sketch] = {}

    def observe(tensor: torch.Tensor) -> dict[str, str]:
        digest = hashlib.md5(tensor.numpy().tobytes()).hexdigest()
        sketches[digest] = sketch_tensor(tensor)
        return {"tensor": f"{str(tensor.dtype).removeprefix('torch.')}[{tensor.numel()}]", "digest": digest}

    outputs: Section = {"text/logits": observe(logits)} | {f"text/{name}": observe(t) for name, t in more.items()}
    trace: Section = {"text/norm": observe(logits if norm is None else norm)}
    return Fingerprint(sections={"trace": trace, "outputs": outputs, "generation": {}}, sketches=sketches)


REFERENCE = _fingerprint(TRUE.float())
TRUTH = Truth(fingerprint=_fingerprint(TRUE))


def test_other_bits_that_are_as_far_from_the_truth_are_equivalent() -> None:
    candidate = _fingerprint(OTHERWISE.float())
    assert needs_truth(REFERENCE, candidate, "text")
    cell = judge_cell(REFERENCE, candidate, TRUTH, "text")
    assert cell.verdict is Verdict.EQUIVALENT
    assert cell.worst is not None
    assert 1 < cell.worst.ratio < 3
    assert (cell.place, cell.findings, cell.compared) == (None, (), 1)


def test_a_change_is_at_the_first_place_whose_ratio_jumps_and_not_at_the_first_other_bits() -> None:
    candidate = _fingerprint((TRUE * 1.001).float(), norm=OTHERWISE.float())
    cell = judge_cell(REFERENCE, candidate, TRUTH, "text")
    assert (cell.verdict, cell.place) == (Verdict.CHANGED, "text/logits")
    assert cell.findings[0].field == "ratio"


def test_what_was_changed_since_is_no_rounding_of_the_release_before_it() -> None:
    """By a later release's truth a mended bug would be nearer to it than the release that had it."""
    mended = _fingerprint((TRUE * 1.00001).float())
    assert judge_cell(REFERENCE, mended, TRUTH, "text").verdict is Verdict.CHANGED
    of_the_later = Truth(fingerprint=_fingerprint(TRUE * 1.00001))
    assert judge_cell(REFERENCE, mended, of_the_later, "text").verdict is Verdict.EQUIVALENT  # so it is never asked


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        (Truth(), "no truth was made"),
        (Truth(why_not="the truth was not made: OOM"), "the truth was not made: OOM"),
        (Truth(fingerprint=REFERENCE), "the truth rounds as the release does"),
        (Truth(fingerprint=replace(TRUTH.fingerprint or REFERENCE, sections={})), "the truth has no such place"),
    ],
)
def test_without_a_truth_other_bits_are_undecidable_and_no_pass(truth: Truth, says: str) -> None:
    cell = judge_cell(REFERENCE, _fingerprint(OTHERWISE.float()), truth, "text")
    assert cell.verdict is Verdict.UNDECIDABLE
    assert not cell.verdict.passes
    assert says in (cell.why or "")
    assert (cell.place, cell.findings[0].field) == ("text/norm", "digest")


def test_without_a_sketch_they_are_too() -> None:
    candidate = replace(_fingerprint(OTHERWISE.float()), sketches={})
    cell = judge_cell(REFERENCE, candidate, TRUTH, "text")
    assert (cell.verdict, cell.why) == (
        Verdict.UNDECIDABLE,
        "evidence is missing: text/norm: the candidate has no sketch of it; take it with --sketch"
        " (first of 2)",
    )  # fmt: skip


def test_ids_have_no_rounding() -> None:
    ours, theirs = (
        _with_generation(REFERENCE, {"text/greedy": {"tensor": "int64[2]", "digest": d * 32}}) for d in "ab"
    )
    assert not needs_truth(ours, theirs, "text")
    assert (cell := judge_cell(ours, theirs, Truth(), "text")).verdict is Verdict.CHANGED
    assert cell.place == "text/greedy"


def _with_generation(seen: Fingerprint, section: Section, *failures: Failure) -> Fingerprint:
    return replace(seen, sections={**seen.sections, "generation": section}, failures=failures)


@pytest.mark.parametrize("is_new", [True, False])
def test_an_answer_of_one_side_alone_is_a_change(is_new: bool) -> None:
    sides = [REFERENCE, _fingerprint(TRUE.float(), loss=TRUE[:1].float())][:: 1 if is_new else -1]
    cell = judge_cell(*sides, TRUTH, "text")
    assert (cell.verdict, cell.place, cell.compared) == (Verdict.CHANGED, "text/loss", 1)
    assert cell.findings[0].field == ("extra" if is_new else "missing")


def test_another_answer_that_raises_beside_one_that_both_raise_is_a_change() -> None:
    ours = _with_generation(REFERENCE, {"text/greedy": {"tensor": "int64[2]", "digest": "a" * 32}}, RAISES)
    theirs = _with_generation(REFERENCE, {}, RAISES, replace(RAISES, error="KeyError: 'x'"))
    cell = judge_cell(ours, theirs, TRUTH, "text")
    assert (cell.verdict, cell.place, cell.why) == (Verdict.CHANGED, "text/greedy", "raises KeyError: 'x'")


def test_what_raises_in_both_is_no_proof_and_is_said() -> None:
    both = _with_generation(REFERENCE, {}, RAISES, RAISES)
    cell = judge_cell(both, both, TRUTH, "text")
    assert (cell.verdict, cell.compared, len(cell.unanswered)) == (Verdict.EQUAL, 1, 2)
    assert cell.unanswered[0] == "text: generation raises IndexError: 256 in both releases"


def test_where_everything_raises_in_both_nothing_is_decided() -> None:
    failures = tuple(replace(RAISES, section=section) for section in ("trace", "outputs", "generation"))
    both = Fingerprint(sections={}, failures=failures)
    cell = judge_cell(both, both, TRUTH, "text")
    assert cell.verdict is Verdict.UNDECIDABLE
    assert cell.why == "nothing was compared: text: outputs raises IndexError: 256 in both releases"


def test_words_and_what_has_no_bits_are_no_proof() -> None:
    words: Section = {"text/cache": {"tensor": "none"}, "text/logits": {"tensor": "X[2]", "unreadable": "no storage"}}
    both = Fingerprint(sections={"trace": {}, "outputs": words, "generation": {}})
    cell = judge_cell(both, both, TRUTH, "text")
    assert (cell.verdict, cell.compared, cell.unanswered) == (Verdict.UNDECIDABLE, 0, ("text/logits: no storage",))


def test_numbers_that_are_not_finite_in_both_are_no_proof() -> None:
    outputs: Section = {**REFERENCE.sections["outputs"], "text/non_finite": {"first": "norm", "non_finite": 3}}
    both = replace(REFERENCE, sections={**REFERENCE.sections, "outputs": outputs})
    cell = judge_cell(both, both, TRUTH, "text")
    assert (cell.verdict, cell.place) == (Verdict.UNDECIDABLE, "text/non_finite")


def test_gradients_are_judged_from_the_last_parameter_to_the_first() -> None:
    def gradients(first: torch.Tensor, last: torch.Tensor) -> Fingerprint:
        seen = _fingerprint(first, last=last)
        outputs = seen.sections["outputs"]
        found = {"first.weight": outputs["text/logits"], "last.weight": outputs["text/last"]}
        return replace(seen, sections={"gradients": found})

    reference, truth = gradients(TRUE.float(), TRUE[1:].float()), Truth(fingerprint=gradients(TRUE, TRUE[1:]))
    rounded = gradients(OTHERWISE.float(), TRUE[1:].float())
    assert judge_cell(reference, rounded, truth, GRADIENTS).verdict is Verdict.EQUIVALENT
    wrong = gradients((TRUE * 1.001).float(), (TRUE[1:] * 1.001).float())
    cell = judge_cell(reference, wrong, truth, GRADIENTS)
    assert (cell.verdict, cell.place) == (Verdict.CHANGED, "last.weight")


def test_gradients_that_are_not_finite_in_both_releases_prove_nothing() -> None:
    bad = _fingerprint(TRUE.float(), cache=torch.full((4,), float("nan")))
    cell = judge_cell(bad, bad, TRUTH, "text")
    assert (cell.verdict, cell.place) == (Verdict.UNDECIDABLE, "text/cache")
