"""Verdicts from planted documents: renamed paths, masks of another form, files that a neighbour cannot read."""

from dataclasses import replace

import pytest

from theworld_validate.compare.causes import Cause, classify
from theworld_validate.documents.fingerprint import FingerprintFile, make_file
from theworld_validate.documents.observations import Failure, Fingerprint
from theworld_validate.releases.alignment import align
from theworld_validate.releases.candidates import judge_candidate
from theworld_validate.releases.check import release_check
from theworld_validate.releases.exchanged import check_exchange
from theworld_validate.releases.judged import Verdict
from theworld_validate.releases.requests import Exchange, Loading
from theworld_validate.releases.safety import unsafe_findings
from theworld_validate.releases.seen import Seen
from theworld_validate.releases.verdicts import judge_first, judge_neighbours
from theworld_validate.results import Environment, Plan, Status, SubjectRecord

A, B, C = ("a" * 32, "b" * 32, "c" * 32)


def _seen(version: str, fingerprint: Fingerprint, **more: object) -> Seen:
    subject = SubjectRecord(role="model", target="x:y", checkpoint="c", dtype="float32", device="cpu")
    file: FingerprintFile = make_file(
        fingerprint,
        subject=subject,
        environment=Environment(python="3.11"),
        plan=Plan(sections=("trace", "outputs"), probes=("text",)),
    )
    whole = Seen(version=version, file=file, loading=Loading(num_keys=2), exchange={})
    return replace(whole, **more)


def _fingerprint(tower: str = "tower.inner", *, logits: str = B, mask: str = "None", norm: str = A) -> Fingerprint:
    return Fingerprint(
        sections={
            "parameters": {f"{tower}.norm.weight": {"dtype": "float32", "shape": "[4]", "digest": A}},
            "buffers": {f"{tower}.ids": {"dtype": "int64", "shape": "[4]", "digest": C}},
            "modules": {f"{tower}.norm": {"class": "torch.nn.LayerNorm"}},
            "trace": {
                "text/layers.0.self_attn(attention_mask)": {"tensor": mask},
                f"text/{tower}.norm": {"tensor": "float32[4]", "digest": norm},
            },
            "outputs": {"text/logits": {"tensor": "float32[9]", "digest": logits}},
            "generation": {"text/static": {"tensor": "int64[9]", "digest": C}},
        }
    )


def test_another_path_for_the_same_bits_is_a_rename_and_no_change() -> None:
    before, after = _fingerprint("tower.inner"), _fingerprint("tower")
    aligned = align(before, after)
    assert aligned.renamed == {"tower.norm.weight": "tower.inner.norm.weight"}
    for name in ("parameters", "buffers", "trace"):
        assert list(aligned.fingerprint.sections[name]) == list(before.sections[name])
    judged = judge_neighbours(_seen("1", before), _seen("2", after), ("text",))
    assert (judged.verdict, judged.renamed, judged.findings) == (Verdict.EQUAL, 1, ())


def test_a_mask_of_another_form_is_not_where_a_result_changed() -> None:
    before, after = _fingerprint(), _fingerprint(mask="bool[1, 1, 4, 4]", norm=B, logits=A)
    judged = judge_neighbours(_seen("1", before), _seen("2", after), ("text",))
    # There are no sketches, so nothing says whether it is rounding.
    assert (judged.verdict, judged.place) == (Verdict.UNDECIDABLE, "text/tower.inner.norm")


def test_what_is_undecidable_is_inconclusive_and_says_which_evidence_is_missing() -> None:
    before, after = _seen("1", _fingerprint()), _seen("2", _fingerprint(norm=B, logits=A))
    check = release_check(judge_neighbours(before, after, ("text",)), after, seconds=0.0)
    assert check.status is Status.INCONCLUSIVE
    assert check.reason is not None
    assert check.reason.startswith("undecidable after 1: evidence is missing: no truth was made")


def test_equal_answers_are_equal_whatever_is_inside() -> None:
    judged = judge_neighbours(_seen("1", _fingerprint()), _seen("2", _fingerprint(norm=B)), ("text",))
    assert judged.verdict is Verdict.EQUAL


def test_an_answer_that_a_release_no_longer_gives_is_a_change_at_that_answer() -> None:
    whole = _fingerprint()
    failure = Failure(section="generation", probe="text", error="IndexError: 256", place="f.py:1")
    broken = replace(whole, sections={**whole.sections, "generation": {}}, failures=(failure,))
    judged = judge_neighbours(_seen("1", whole), _seen("2", broken), ("text",))
    assert (judged.verdict, judged.place) == (Verdict.CHANGED, "text/static")
    assert "raises IndexError: 256" in judged.findings[0].message
    mended = judge_neighbours(_seen("2", broken), _seen("3", whole), ("text",))
    assert (mended.verdict, mended.place) == (Verdict.CHANGED, "text/static")
    both = judge_neighbours(_seen("1", broken), _seen("2", broken), ("text",))
    assert (both.verdict, both.unanswered) == (
        Verdict.EQUAL,
        ("text: generation raises IndexError: 256 in both releases",),
    )
    (said,) = both.findings
    assert (said.code, said.severity) == ("releases.unanswered", "warning")
    assert said.message.startswith("1 answer was not compared, which neither release gives: text: generation raises")


def test_other_weights_are_a_change_though_no_answer_shows_them() -> None:
    before = _fingerprint()
    experts = {"experts.7": {"dtype": "float32", "shape": "[4]", "digest": A}}
    sides = []
    for digest in (A, B):
        parameters = {**before.sections["parameters"], "experts.7": {**experts["experts.7"], "digest": digest}}
        sides.append(replace(before, sections={**before.sections, "parameters": parameters}))
    judged = judge_neighbours(_seen("1", sides[0]), _seen("2", sides[1]), ("text",))
    assert (judged.loading.verdict, judged.cells[0].verdict) == (Verdict.CHANGED, Verdict.EQUAL)
    assert (judged.verdict, judged.place) == (Verdict.CHANGED, "experts.7")
    assert [finding.location for finding in judged.findings] == ["experts.7"]


def test_a_first_release_that_raises_does_not_pass() -> None:
    failure = Failure(section="generation", probe="text", error="IndexError: 256", place="f.py:1")
    judged = judge_first(_seen("1", replace(_fingerprint(), failures=(failure,))), ("text",))
    assert judged.verdict is Verdict.FAILED
    assert "raises IndexError: 256" in judged.findings[0].message


def test_a_probe_of_which_nothing_came_is_no_pass() -> None:
    empty = replace(_fingerprint(), sections={**_fingerprint().sections, "outputs": {}, "generation": {}})
    judged = judge_neighbours(_seen("1", empty), _seen("2", empty), ("text",))
    assert judged.verdict is Verdict.UNDECIDABLE
    assert judged.findings[0].message == "text: nothing was compared"


def test_neighbours_that_cannot_read_each_others_files_are_unsafe() -> None:
    lost = Exchange(loading=Loading(num_keys=2, missing=("tower.weight",), unexpected=("tower.inner.weight",)))
    old = _seen("1", _fingerprint(), exchange={"2": lost})
    new = _seen("2", _fingerprint(), exchange={"1": Exchange(loading=Loading(num_keys=2))})
    judged = judge_neighbours(old, new, ("text",))
    assert (judged.loading.verdict, judged.cells[0].verdict) == (Verdict.UNSAFE, Verdict.EQUAL)
    assert judged.verdict is Verdict.UNSAFE
    assert judged.findings[0].message.startswith("what 2 saves of a new model, 1 loads with 1 of 2 tensors missing")
    (files,) = check_exchange([old, new])
    assert files.status is Status.FAILED
    fails = Exchange(failure="KeyError: 'tower'")
    (files,) = check_exchange([replace(old, exchange={"2": fails}), new])
    assert files.findings[0].code == "releases.exchange_failed"


def test_the_first_release_is_judged_by_what_it_loads() -> None:
    first = judge_first(_seen("1", _fingerprint()), ("text",))
    assert {cell.verdict for cell in first.columns} == {Verdict.FIRST}  # equal to nothing: none is before it
    assert first.verdict.passes
    random = _seen("1", _fingerprint(), loading=Loading(num_keys=2, random=("head.weight",)))
    assert judge_first(random, ("text",)).verdict is Verdict.UNSAFE
    failed = Seen(version="1", exchange={}, failure="ImportError: no such class")
    assert judge_first(failed, ("text",)).verdict is Verdict.FAILED


def test_after_a_release_that_failed_there_is_nothing_to_compare_with() -> None:
    failed = Seen(version="1", exchange={}, failure="ImportError: no such class")
    judged = judge_neighbours(failed, _seen("2", _fingerprint()), ("text",))
    assert (judged.verdict, judged.findings[0].code) == (Verdict.UNDECIDABLE, "releases.not_compared")


def test_a_candidate_is_compared_with_the_base_of_its_own_release_bit_for_bit() -> None:
    base = _seen("1", _fingerprint())
    assert judge_candidate(base, _seen("1", _fingerprint()), ("text",)).status is Status.PASSED
    other = judge_candidate(base, _seen("1", _fingerprint(norm=B, logits=A)), ("text",))
    assert (other.status, other.findings[0].location) == (Status.FAILED, "text/tower.inner.norm")
    lost = _seen("1", _fingerprint(), loading=Loading(num_keys=2, missing=("tower.norm.weight",)))
    assert judge_candidate(base, lost, ("text",)).findings[0].code == "releases.missing"
    dead = Seen(version="1", exchange={}, failure="its process exited with code 1")
    assert judge_candidate(base, dead, ("text",)).status is Status.FAILED
    assert judge_candidate(dead, base, ("text",)).status is Status.INCONCLUSIVE


def test_a_module_of_another_class_explains_only_what_changes_inside_of_it() -> None:
    def of_class(name: str, *, norm: str, logits: str) -> Fingerprint:
        seen = _fingerprint(norm=norm, logits=logits)
        return replace(seen, sections={**seen.sections, "modules": {"tower": {"class": name}, "head": {"class": name}}})

    before, after = of_class("x.Old", norm=A, logits=A), of_class("x.New", norm=B, logits=B)
    inside = judge_neighbours(_seen("1", before), _seen("2", after), ("text",)).findings
    assert [f.location for f in inside if f.section == "modules"] == ["tower"]
    failure = Failure(section="generation", probe="text", error="IndexError: 256", place="f.py:1")
    broken = of_class("x.New", norm=A, logits=A)
    broken = replace(broken, sections={**broken.sections, "generation": {}}, failures=(failure,))
    raised = judge_neighbours(_seen("1", before), _seen("2", broken), ("text",)).findings
    assert [f.section for f in raised] == ["generation"]


def test_where_the_base_fails_too_nothing_is_said_of_the_candidate() -> None:
    whole, broken = _seen("1", _fingerprint()), _seen("1", _fingerprint(), file=None, failure="RuntimeError: shapes")
    assert judge_candidate(whole, broken, ("text",)).status is Status.FAILED
    check = judge_candidate(replace(broken, failure="OSError"), broken, ("text",))
    assert check.status is Status.INCONCLUSIVE
    assert "the checkpoint's own class failed" in check.findings[0].message


@pytest.mark.parametrize(
    ("facts", "cause", "section"),
    [
        ({"missing": ("head.weight",)}, Cause.LOST_KEY, "parameters"),
        ({"random": ("head.weight",)}, Cause.LOST_KEY, "parameters"),
        ({"random": ("head.weight",), "drawn_anew": ("head.weight",)}, Cause.REINITIALISED, "parameters"),
        ({"random": ("scale",), "unset_buffers": ("scale",)}, Cause.BUFFER_VALUE, "buffers"),
        ({"random": ("table.weight",)}, Cause.LOST_TIE, "parameters"),
        ({"missing": ("table.weight",)}, Cause.LOST_TIE, "parameters"),
    ],
)
def test_what_no_file_filled_is_told_by_how_that_came(
    facts: dict[str, tuple[str, ...]], cause: Cause, section: str
) -> None:
    (finding,) = unsafe_findings(Loading(num_keys=9, **facts), "it loads with", ties={"table.weight"})
    assert (classify(finding), finding.section) == (cause, section)
    assert finding.location == next(iter(facts.values()))[0]


def test_a_tie_that_a_release_lost_is_known_from_the_one_before_it() -> None:
    def tied(other: dict[str, str | int | float | bool | None]) -> Fingerprint:
        whole = _fingerprint()
        return replace(
            whole,
            sections={**whole.sections, "parameters": {**whole.sections["parameters"], "table.weight": other}},
        )

    before = _seen("1", tied({"tied_to": "tower.inner.norm.weight"}))
    loading = Loading(num_keys=3, random=("table.weight",))
    after = _seen("2", tied({"dtype": "float32", "shape": "[4]", "digest": C, "tied_to": None}), loading=loading)
    judged = judge_neighbours(before, after, ("text",))
    assert (judged.verdict, classify(judged.findings[0])) == (Verdict.UNSAFE, Cause.LOST_TIE)


def test_a_weight_explains_what_changes_in_the_modules_that_are_tied_to_it() -> None:
    def table(digest: str) -> Fingerprint:
        return Fingerprint(
            sections={
                "parameters": {
                    "shared.weight": {"dtype": "float32", "shape": "[4]", "digest": digest, "tied_to": None},
                    "encoder.embed.weight": {"tied_to": "shared.weight"},
                },
                "trace": {"text/encoder.embed": {"tensor": "float32[4]", "digest": digest}},
                "outputs": {"text/logits": {"tensor": "float32[9]", "digest": digest}},
            }
        )

    judged = judge_neighbours(_seen("1", table(A)), _seen("2", table(B)), ("text",))
    assert [(f.location, classify(f)) for f in judged.findings if f.explained_by is None] == [
        ("shared.weight", Cause.WEIGHT_BITS)
    ]


def test_weights_that_could_not_be_observed_are_no_pass() -> None:
    whole = _fingerprint()
    failure = Failure(section="parameters", error="RuntimeError: boom", place="f.py:1")
    broken = replace(whole, sections={**whole.sections, "parameters": {}}, failures=(failure,))
    judged = judge_neighbours(_seen("1", whole), _seen("2", broken), ("text",))
    assert judged.verdict is Verdict.UNDECIDABLE
    assert "2: parameters could not be observed: RuntimeError: boom" in judged.findings[0].message


def test_a_release_that_cannot_save_is_said_though_nobody_read_anything() -> None:
    sides = [_seen("1", _fingerprint()), _seen("2", _fingerprint(), unsaved="RuntimeError: save_pretrained fails")]
    (check,) = check_exchange(sides)
    assert check.status is Status.INCONCLUSIVE
    assert "2: RuntimeError: save_pretrained fails" in str(check.reason)
