"""The referee: each verdict with a planted fault, and no verdict where evidence is cut."""

from dataclasses import replace

import pytest
import torch

from tests.theworld_validate.compare.rounded import (
    fingerprint_of,
    rounded,
    truth_tensors,
    with_state,
)
from theworld_validate.compare.judgement import Judgement, Verdict, judge
from theworld_validate.documents.choices import Choice
from theworld_validate.documents.observations import Failure, Fingerprint
from theworld_validate.documents.sketches import Sketch
from theworld_validate.results import Scalar

NUMBERS = truth_tensors()
TRUTH = fingerprint_of(NUMBERS)
REFERENCE = fingerprint_of(rounded(NUMBERS))
EQUIVALENT = fingerprint_of(rounded(NUMBERS, seed=1))
UNSKETCHED = replace(REFERENCE, sketches={})


def put(base: Fingerprint, section: str, place: str, tensor: torch.Tensor) -> Fingerprint:
    """A fingerprint with another tensor at one place."""
    seen = fingerprint_of({section: {place: tensor}}, {})
    sections = {**base.sections, section: {**base.sections[section], **seen.sections[section]}}
    return replace(base, sections=sections, sketches={**base.sketches, **seen.sketches})


def without(base: Fingerprint, section: str, place: str) -> Fingerprint:
    """A fingerprint without one place."""
    left = {name: seen for name, seen in base.sections[section].items() if name != place}
    return replace(base, sections={**base.sections, section: left})


def first_of(judgement: Judgement) -> str:
    assert judgement.verdict is Verdict.DIFFERENT
    assert judgement.first is not None
    return judgement.first.key


def test_equal_bits_are_identical_and_need_no_evidence() -> None:
    judgement = judge(UNSKETCHED, UNSKETCHED)
    assert (judgement.verdict, judgement.worst) == (Verdict.IDENTICAL, None)
    assert judgement.reason == "equal bit for bit"


def test_another_rounding_is_equivalent_and_the_worst_place_is_named() -> None:
    judgement = judge(REFERENCE, EQUIVALENT, TRUTH)
    assert judgement.verdict is Verdict.EQUIVALENT, judgement.reason
    assert judgement.worst is not None
    assert 1.2 < judgement.worst.ratio < judgement.bounds.ratio
    assert judgement.worst.location in judgement.reason


def test_the_first_place_whose_ratio_jumps_is_named() -> None:
    """The attention of layer 1 is as far off as ten roundings; all that comes later is, too."""
    other = rounded(NUMBERS, seed=1)
    for section, place in (("trace", "layers.1"), ("outputs", "p/logits")):
        other[section] |= rounded({section: NUMBERS[section]}, seed=2, times=10, only=place)[section] | {
            name: seen for name, seen in other[section].items() if place not in name
        }
    judgement = judge(REFERENCE, fingerprint_of(other), TRUTH)
    assert first_of(judgement) == "trace.ratio@p/layers.1.self_attn"
    (part, *_) = judgement.parts
    assert [f.location for f in part.findings] == ["p/layers.1.self_attn", "p/logits"]
    assert "(first of 2 places)" in part.findings[0].message


@pytest.mark.parametrize(
    ("section", "location", "fields"),
    [
        ("parameters", "layers.0.mlp.weight", {"digest": "f" * 32}),
        ("config", "config.hidden_size", {"value": 65}),
        ("globals", "grad_enabled", {"value": False}),
        ("modules", "layers.0.mlp", {"hooks": 1}),
        ("modules", "layers.0.mlp", {"training": True}),
        ("modules", "layers.0.mlp", {"attribute.scaling": 2.0}),
    ],
)
def test_what_a_model_is_stays_exact(section: str, location: str, fields: dict[str, Scalar]) -> None:
    for base in (REFERENCE, EQUIVALENT):
        judgement = judge(REFERENCE, with_state(base, section, location, **fields), TRUTH)
        assert first_of(judgement) == f"{section}.{next(iter(fields))}@{location}"


@pytest.mark.parametrize(
    ("section", "location", "fields"),
    [
        ("globals", "num_threads", {"value": 2}),
        ("modules", "layers.0.mlp", {"class": "b.Fused", "attribute.size": 3}),
        ("modules", "layers.0.mlp", {"overrides": "forward"}),
        ("modules", "layers.0.mlp", {"compiled": True}),
        ("modules", "(model)", {"attn_implementation": "eager"}),
        ("parameters", "layers.0.mlp.weight", {"stride": "[1, 2]"}),
        ("modules", "layers.0.mlp.inner", {"class": "b.Inner"}),
    ],
)
def test_how_it_is_computed_is_listed_and_judged_by_its_numbers(
    section: str, location: str, fields: dict[str, Scalar]
) -> None:
    for base in (REFERENCE, EQUIVALENT):
        judgement = judge(REFERENCE, with_state(base, section, location, **fields), TRUTH)
        assert judgement.verdict is Verdict.EQUIVALENT, judgement.reason
        assert judgement.computing
        assert all(finding.severity == "warning" for finding in judgement.computing)
    wrong = put(REFERENCE, "trace", "p/layers.0.mlp", torch.zeros(20, 64, dtype=torch.bfloat16))
    judgement = judge(REFERENCE, with_state(wrong, section, location, **fields), TRUTH)
    assert first_of(judgement) == "trace.ratio@p/layers.0.mlp"


def cut(side: Fingerprint) -> Fingerprint:
    """One sketch is gone: of the last gradient, where nothing else shows it."""
    digest = str(side.sections["gradients"]["layers.1.mlp.weight"]["digest"])
    return replace(side, sketches={name: sketch for name, sketch in side.sketches.items() if name != digest})


def of_another(side: Fingerprint) -> Fingerprint:
    """A sketch that stands under the digest of another tensor."""
    digest = str(side.sections["gradients"]["layers.1.mlp.weight"]["digest"])
    sketch = side.sketches[digest]
    other = Sketch(values=sketch.values, dtype="float16", elements=sketch.elements)
    return replace(side, sketches={**side.sketches, digest: other})


@pytest.mark.parametrize(
    ("reference", "candidate", "truth", "missing"),
    [
        (REFERENCE, EQUIVALENT, None, "there is no truth"),
        (REFERENCE, EQUIVALENT, REFERENCE, "the truth rounds as the reference does"),
        (REFERENCE, EQUIVALENT, replace(TRUTH, sketches={}), "the truth rounds as the reference does"),
        (cut(REFERENCE), EQUIVALENT, TRUTH, "layers.1.mlp.weight: the reference has no sketch"),
        (REFERENCE, cut(EQUIVALENT), TRUTH, "layers.1.mlp.weight: the candidate has no sketch"),
        (REFERENCE, EQUIVALENT, cut(TRUTH), "layers.1.mlp.weight: the truth has no sketch"),
        (REFERENCE, of_another(EQUIVALENT), TRUTH, "the candidate's sketch is of another tensor"),
        (REFERENCE, EQUIVALENT, without(TRUTH, "outputs", "p/logits"), "p/logits: the truth has no such place"),
        (REFERENCE, replace(REFERENCE, sections={**REFERENCE.sections, "gradients": {}}), TRUTH, "gradients of the ca"),
        (REFERENCE, replace(REFERENCE, sections={**REFERENCE.sections, "trace": {}}), TRUTH, "trace of the candidate"),
        (replace(REFERENCE, sections={}), replace(REFERENCE, sections={}), TRUTH, "nothing was compared"),
    ],
)
def test_missing_evidence_is_undecidable_and_said(
    reference: Fingerprint, candidate: Fingerprint, truth: Fingerprint | None, missing: str
) -> None:
    judgement = judge(reference, candidate, truth)
    assert judgement.verdict is Verdict.UNDECIDABLE
    assert missing in judgement.reason


def test_a_difference_is_one_whatever_is_missing() -> None:
    judgement = judge(UNSKETCHED, with_state(EQUIVALENT, "config", "config.hidden_size", value=65))
    assert judgement.verdict is Verdict.DIFFERENT


def test_where_the_reference_rounds_nothing_one_rounding_is_the_unit() -> None:
    exact = rounded(NUMBERS)["trace"]["p/embed_tokens"]
    reference, truth = (
        put(REFERENCE, "trace", "p/embed_tokens", exact),
        put(TRUTH, "trace", "p/embed_tokens", exact.float()),
    )
    for times, verdict in ((1, Verdict.EQUIVALENT), (12, Verdict.DIFFERENT)):
        noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(3)) * 2.0**-9 * times
        candidate = put(REFERENCE, "trace", "p/embed_tokens", (exact.float() * (1 + noise)).bfloat16())
        assert judge(reference, candidate, truth).verdict is verdict


def test_one_number_that_the_reference_hits_by_chance_is_judged_by_what_rounding_does_elsewhere() -> None:
    loss = NUMBERS["outputs"]["p/loss"]
    for off, verdict in ((2.0**-9, Verdict.EQUIVALENT), (2.0**-4, Verdict.DIFFERENT)):
        sides = [put(base, "outputs", "p/loss", loss) for base in (REFERENCE, TRUTH)]
        candidate = put(REFERENCE, "outputs", "p/loss", loss * (1 + off))
        assert judge(sides[0], candidate, sides[1]).verdict is verdict


@pytest.mark.parametrize(("off", "verdict"), [(2.0**-9, Verdict.EQUIVALENT), (0.05, Verdict.DIFFERENT)])
@pytest.mark.parametrize("mark", ["", "(text)", "(inputs_embeds)"])
def test_a_training_loss_is_judged_by_what_rounding_does_to_forwards_and_not_to_gradients(
    off: float, verdict: Verdict, mark: str
) -> None:
    """Rounding moves these gradients by 2 %; the loss, which is float32, is right by chance in the reference."""
    gradients = [rounded(NUMBERS, seed=seed, times=10)["gradients"] for seed in (8, 9)]
    forwards = rounded(NUMBERS), rounded(NUMBERS, seed=1)
    sides = [fingerprint_of({**f, "gradients": g}) for f, g in zip(forwards, gradients, strict=True)]
    loss, place = torch.tensor(2.5), f"(loss){mark}"
    reference, candidate, truth = (
        put(base, "gradients", place, seen)
        for base, seen in ((sides[0], loss), (sides[1], loss * (1 + off)), (TRUTH, loss))
    )
    judgement = judge(reference, candidate, truth)
    assert judgement.verdict is verdict, judgement.reason
    if verdict is Verdict.DIFFERENT:
        assert first_of(judgement) == f"gradients.ratio@{place}"
        assert f"bound {judgement.bounds.ratio:g}" in judgement.reason


@pytest.mark.parametrize(
    ("rounding", "times", "verdict"),
    [
        (2.0**-12, 1.5, Verdict.EQUIVALENT),  # of the usual 2e-1: 64 x 64 numbers, rounded by bfloat16
        (2.0**-12, 2.0**16, Verdict.DIFFERENT),
        (2.0**6, 1.5, Verdict.UNDECIDABLE),  # no rounding of this model
    ],
)
def test_where_the_truth_is_nothing_the_unit_is_what_rounding_does_elsewhere(
    rounding: float, times: float, verdict: Verdict
) -> None:
    """As for the gradient of a key's bias, which softmax cancels: what is left of it is rounding."""
    random = torch.Generator().manual_seed(5)
    noise = [torch.randn(300, generator=random) * rounding for _ in range(2)]
    sides = [
        put(base, "gradients", "layers.0.mlp.weight", tensor.to(dtype))
        for base, tensor, dtype in (
            (REFERENCE, noise[0], torch.bfloat16),
            (EQUIVALENT, noise[1] * times, torch.bfloat16),
            (TRUTH, noise[0] * 2.0**-30, torch.float32),
        )
    ]
    assert judge(*sides).verdict is verdict


def test_places_of_other_code_are_let_go_only_where_the_code_is_another() -> None:
    fewer = without(EQUIVALENT, "trace", "p/layers.0.mlp")
    assert first_of(judge(REFERENCE, fewer, TRUTH)) == "trace.missing@p/layers.0.mlp"
    other_code = with_state(fewer, "modules", "layers.0.mlp", **{"class": "b.Fused"})
    assert judge(REFERENCE, other_code, TRUTH).verdict is Verdict.EQUIVALENT
    assert first_of(judge(REFERENCE, without(other_code, "outputs", "p/logits"), TRUTH)) == "outputs.missing@p/logits"


def test_masks_have_no_rounding() -> None:
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)
    place = "p/layers.0.self_attn(attention_mask)"
    other = mask.clone()
    other[0, 0, 0, 3] = -1
    sides = [put(base, "trace", place, seen) for base, seen in ((REFERENCE, mask), (EQUIVALENT, other), (TRUTH, mask))]
    assert first_of(judge(*sides)) == f"trace.digest@{place}"


CHOSEN = {f"p/greedy_logits[{i}]": (Choice(token=i, best=((i, 4.0), (9, 4.0 - 2.0**-9), (8, 1.0))),) for i in range(3)}


def parting(base: Fingerprint, step: int, token: int, best: tuple[tuple[int, float], ...]) -> Fingerprint:
    """A fingerprint whose tokens part at a step, where another one has the greatest score; later logits are others."""
    tokens = torch.arange(4)
    tokens[step + 1 :] = token
    parted = put(replace(base, choices=CHOSEN), "generation", "p/greedy", tokens)
    for later in range(step + 1, 3):
        parted = put(parted, "generation", f"p/greedy_logits[{later}]", torch.ones(1, 300, dtype=torch.bfloat16))
    return replace(parted, choices={**CHOSEN, f"p/greedy_logits[{step}]": (Choice(token=token, best=best),)})


WITH_CHOICES = replace(REFERENCE, choices=CHOSEN)
TRUTH_WITH_CHOICES = replace(TRUTH, choices=CHOSEN)
TURNED = ((9, 4.0), (1, 4.0), (8, 1.0))  # the two best, which rounding has put level


def test_a_tie_that_rounding_turns_is_equivalent_and_what_follows_is_not_compared() -> None:
    judgement = judge(WITH_CHOICES, parting(EQUIVALENT, 1, 9, TURNED), TRUTH_WITH_CHOICES)
    assert judgement.verdict is Verdict.EQUIVALENT, judgement.reason
    assert judgement.parts[0].num_elsewhere == 1  # the step after it


def test_after_a_tie_of_one_row_the_others_are_still_looked_at() -> None:
    clear = Choice(token=3, best=((3, 3.0), (4, 0.1)))
    other = Choice(token=4, best=((4, 3.0), (3, 0.1)))
    turned = Choice(token=9, best=((9, 4.0), (0, 4.0)))
    ours = {"p/greedy_logits[0]": (*CHOSEN["p/greedy_logits[0]"], clear), "p/greedy_logits[1]": (clear, clear)}
    theirs = {"p/greedy_logits[0]": (turned, clear), "p/greedy_logits[1]": (other, other)}
    tokens = torch.tensor([[0, 3, 3], [3, 3, 3]]), torch.tensor([[9, 4, 4], [3, 4, 4]])
    reference, candidate, truth = (
        replace(put(base, "generation", "p/greedy", seen), choices=chosen)
        for base, seen, chosen in (
            (REFERENCE, tokens[0], ours),
            (EQUIVALENT, tokens[1], theirs),
            (TRUTH, tokens[0], ours),
        )
    )
    judgement = judge(reference, candidate, truth)
    assert first_of(judgement) == "generation.choice@p/greedy_logits[1]"
    assert "row 1: the candidate chooses token 4, the reference 3, " in judgement.reason


def test_a_generation_that_ends_after_its_tie_is_different() -> None:
    short = put(parting(EQUIVALENT, 1, 9, TURNED), "generation", "p/greedy", torch.tensor([0, 1, 9]))
    short = without(short, "generation", "p/greedy_logits[2]")
    assert first_of(judge(WITH_CHOICES, short, TRUTH_WITH_CHOICES)) == "generation.tensor@p/greedy"


def test_another_choice_by_equal_logits_is_different_however_near_the_two_are() -> None:
    parted = parting(REFERENCE, 1, 9, TURNED)
    judgement = judge(WITH_CHOICES, parted, TRUTH_WITH_CHOICES)
    assert first_of(judgement) == "generation.choice@p/greedy_logits[1]"
    assert "by logits that are equal bit for bit" in judgement.reason


def test_a_token_that_parts_where_none_is_tied_is_different() -> None:
    low = parting(EQUIVALENT, 1, 8, ((8, 4.0), (1, 4.0), (9, 4.0)))
    judgement = judge(WITH_CHOICES, low, TRUTH_WITH_CHOICES)
    assert first_of(judgement) == "generation.choice@p/greedy_logits[1]"
    assert "the candidate chooses token 8, the reference 1, whose score is ahead by 3, " in judgement.reason
    unknown = parting(EQUIVALENT, 1, 7, ((7, 4.0), (1, 4.0)))
    judgement = judge(WITH_CHOICES, unknown, TRUTH_WITH_CHOICES)
    assert first_of(judgement) == "generation.choice@p/greedy_logits[1]"
    assert "ahead by at least 3, " in judgement.reason


def test_a_choice_that_is_not_the_candidates_own_greatest_is_different() -> None:
    other = parting(EQUIVALENT, 1, 9, ((1, 4.0), (9, 4.0 - 2.0**-9)))
    judgement = judge(WITH_CHOICES, other, TRUTH_WITH_CHOICES)
    assert first_of(judgement) == "generation.choice@p/greedy_logits[1]"
    assert "not the candidate's own greatest score" in judgement.reason


def test_tokens_that_part_though_every_logit_is_equal_are_different() -> None:
    parted = parting(REFERENCE, 2, 9, ((9, 4.0), (2, 3.0)))
    same = replace(parted, choices=CHOSEN)  # no step says that it chose another one
    assert first_of(judge(WITH_CHOICES, same, TRUTH_WITH_CHOICES)) == "generation.digest@p/greedy"
    tokens = put(WITH_CHOICES, "generation", "p/sampled", torch.arange(4))
    others = put(WITH_CHOICES, "generation", "p/sampled", torch.ones(4, dtype=torch.int64))
    assert first_of(judge(tokens, others, TRUTH_WITH_CHOICES)) == "generation.digest@p/sampled"


def test_a_jump_before_tokens_part_is_one_and_after_it_nothing_is_compared() -> None:
    wrong = put(parting(EQUIVALENT, 1, 9, TURNED), "generation", "p/greedy_logits[0]", torch.ones(1, 300).bfloat16())
    assert first_of(judge(WITH_CHOICES, wrong, TRUTH_WITH_CHOICES)) == "generation.ratio@p/greedy_logits[0]"
    # The tokens are the same, so the prompts did not part.
    jump = put(replace(EQUIVALENT, choices=CHOSEN), "generation", "p/greedy_logits[2]", torch.ones(1, 300).bfloat16())
    assert first_of(judge(WITH_CHOICES, jump, TRUTH_WITH_CHOICES)) == "generation.ratio@p/greedy_logits[2]"


def test_what_tokens_were_chosen_by_must_be_known() -> None:
    parted = replace(parting(EQUIVALENT, 1, 9, TURNED), choices={})
    judgement = judge(WITH_CHOICES, parted, TRUTH_WITH_CHOICES)
    assert judgement.verdict is Verdict.UNDECIDABLE
    assert judgement.parts[0].missing == (
        "p/greedy_logits[0]: tokens part, and by what they were chosen is not in the files",
    )
    # A reference that samples, or forbids a token otherwise, has no tie that can be told.
    forbidden = {place: (replace(rows[0], token=8),) for place, rows in CHOSEN.items()}
    judgement = judge(replace(WITH_CHOICES, choices=forbidden), parting(EQUIVALENT, 0, 9, TURNED), TRUTH_WITH_CHOICES)
    assert judgement.verdict is Verdict.UNDECIDABLE


@pytest.mark.parametrize("way", ["sampled", "beams"])
def test_draws_and_beams_that_part_do_not_say_why(way: str) -> None:
    ours = put(WITH_CHOICES, "generation", f"p/{way}", torch.arange(4))
    theirs = put(EQUIVALENT, "generation", f"p/{way}", torch.ones(4, dtype=torch.int64))
    truth = TRUTH_WITH_CHOICES
    if way == "beams":
        scores = torch.tensor([-30.0])
        ours, theirs, truth = (
            put(side, "generation", "p/beams_scores", score)
            for side, score in ((ours, scores), (theirs, scores - 9), (truth, scores.double()))
        )
    judgement = judge(ours, theirs, truth)
    assert judgement.verdict is Verdict.UNDECIDABLE, judgement.reason


def beams(base: Fingerprint, tokens: torch.Tensor, score: torch.Tensor | None) -> Fingerprint:
    seen = put(base, "generation", "p/beams", tokens)
    return seen if score is None else put(seen, "generation", "p/beams_scores", score)


BEAMS, OTHER_BEAMS, SCORE = torch.arange(4), torch.ones(4, dtype=torch.int64), torch.tensor([-3.0])


def test_other_beams_pass_only_by_scores_that_are_a_tie() -> None:
    ours, truth = beams(REFERENCE, BEAMS, SCORE.bfloat16()), beams(TRUTH, BEAMS, SCORE + 0.005)
    tied = beams(EQUIVALENT, OTHER_BEAMS, SCORE.bfloat16() + 2.0**-6)
    assert judge(ours, tied, truth).verdict is Verdict.EQUIVALENT
    # Without scores, and with the reference's own beside other beams, nothing shows that they are as good.
    nothing = beams(REFERENCE, BEAMS, None), beams(EQUIVALENT, OTHER_BEAMS, None), beams(TRUTH, BEAMS, None)
    assert judge(*nothing).verdict is Verdict.UNDECIDABLE
    assert judge(ours, beams(EQUIVALENT, OTHER_BEAMS, SCORE.bfloat16()), truth).verdict is Verdict.UNDECIDABLE
    short = beams(EQUIVALENT, OTHER_BEAMS[:2], SCORE.bfloat16() + 2.0**-6)
    assert judge(ours, short, truth).verdict is Verdict.DIFFERENT


def test_scores_of_a_truth_of_other_beams_judge_nothing() -> None:
    ours = beams(REFERENCE, BEAMS, SCORE.bfloat16())
    truth = beams(TRUTH, OTHER_BEAMS, torch.tensor([-4.2]))
    worse = torch.tensor([-6.5]).bfloat16()
    assert judge(ours, beams(EQUIVALENT, BEAMS, worse), truth).verdict is Verdict.DIFFERENT
    assert (
        judge(ours, beams(EQUIVALENT, torch.zeros(4, dtype=torch.int64), worse), truth).verdict is Verdict.UNDECIDABLE
    )


def test_gradients_that_are_not_finite_on_both_sides_prove_nothing() -> None:
    place = "embed_tokens.weight"
    bad = torch.full((64, 64), float("nan"))
    sides = [put(base, "gradients", place, bad) for base in (REFERENCE, EQUIVALENT, TRUTH)]
    judgement = judge(*sides)
    assert judgement.verdict is Verdict.UNDECIDABLE
    assert f"{place}: numbers that are not finite on both sides prove nothing" in judgement.parts[1].missing


def test_a_small_tensor_that_the_reference_misses_by_half_is_judged_by_what_one_element_rounds() -> None:
    ours, truth = (put(base, "outputs", "p/loss", torch.tensor([v])) for base, v in ((REFERENCE, 0.01), (TRUTH, 0.05)))
    wrong = put(EQUIVALENT, "outputs", "p/loss", torch.tensor([0.2]))
    assert judge(ours, wrong, truth).verdict is not Verdict.EQUIVALENT


def test_after_the_truth_chose_another_token_the_two_are_held_against_each_other() -> None:
    others = {"p/greedy_logits[1]": (Choice(token=9, best=TURNED),)}
    truth = parting(TRUTH, 1, 9, TURNED)  # its last logits are of another prompt
    truth = replace(truth, choices={**CHOSEN, **others})
    same = replace(EQUIVALENT, choices=CHOSEN)
    judgement = judge(WITH_CHOICES, same, truth)
    assert judgement.verdict is Verdict.EQUIVALENT, judgement.reason
    last = "p/greedy_logits[2]"
    twice = rounded(NUMBERS, seed=2, times=12, only=last)["generation"][last]
    assert first_of(judge(WITH_CHOICES, put(same, "generation", last, twice), truth)) == f"generation.ratio@{last}"


def test_the_references_own_noise_counts_as_rounding() -> None:
    noisy = fingerprint_of(rounded(NUMBERS, seed=5, times=8, only="layers.1.mlp"))
    candidate = fingerprint_of(rounded(NUMBERS, seed=6, times=8, only="layers.1.mlp"))
    assert judge(REFERENCE, candidate, TRUTH).verdict is Verdict.DIFFERENT
    assert judge(REFERENCE, candidate, TRUTH, control=noisy).verdict is Verdict.EQUIVALENT


def test_what_is_not_finite_is_different() -> None:
    tensor = NUMBERS["trace"]["p/layers.0.mlp"].bfloat16()
    tensor[3, 4] = float("nan")
    judgement = judge(REFERENCE, put(REFERENCE, "trace", "p/layers.0.mlp", tensor), TRUTH)
    assert first_of(judgement) == "trace.ratio@p/layers.0.mlp"


def test_what_is_not_finite_on_both_sides_proves_nothing() -> None:
    sides = []
    for base, value in ((REFERENCE, 1.0), (EQUIVALENT, 100.0), (TRUTH, 1.0)):
        tensor = torch.full((20, 100), value, dtype=torch.float32 if base is TRUTH else torch.bfloat16)
        tensor[3, 4] = float("inf")
        sides.append(put(base, "trace", "p/layers.0.mlp", tensor))
    assert judge(*sides).verdict is Verdict.UNDECIDABLE


def test_a_truth_of_something_else_judges_nothing() -> None:
    """Both sides are equally far from it, whatever they are."""
    random = torch.Generator().manual_seed(9)
    unrelated = TRUTH
    for section, seen in NUMBERS.items():
        for place, tensor in seen.items():
            if tensor.is_floating_point():
                unrelated = put(unrelated, section, place, torch.randn(tensor.shape, generator=random))
    wrong = put(EQUIVALENT, "outputs", "p/logits", NUMBERS["outputs"]["p/logits"].bfloat16() * 1.5)
    assert judge(REFERENCE, wrong, TRUTH).verdict is Verdict.DIFFERENT
    assert judge(REFERENCE, wrong, unrelated).verdict is Verdict.UNDECIDABLE


def test_a_section_that_one_side_lost_is_different() -> None:
    lost = replace(REFERENCE, sections={**REFERENCE.sections, "buffers": {}})
    had = with_state(lost, "buffers", "inv_freq", digest="x", dtype="float32")
    assert judge(had, lost, TRUTH).verdict is Verdict.DIFFERENT


def test_another_shape_or_dtype_is_different() -> None:
    for tensor in (torch.ones(21, 100, dtype=torch.bfloat16), torch.ones(20, 100)):
        judgement = judge(REFERENCE, put(REFERENCE, "outputs", "p/logits", tensor), TRUTH)
        assert first_of(judgement) == "outputs.tensor@p/logits"


def test_who_raises_is_different_and_a_reference_that_raises_proves_nothing() -> None:
    failure = Failure(section="outputs", probe="p", error="ValueError: no", place="model.py:3")
    assert first_of(judge(REFERENCE, replace(REFERENCE, failures=(failure,)), TRUTH)) == "outputs.raised@p"
    judgement = judge(replace(REFERENCE, failures=(failure,)), REFERENCE, TRUTH)
    assert judgement.verdict is Verdict.UNDECIDABLE
