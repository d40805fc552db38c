"""Generated tokens, and the logits behind them: which tokens part, at which step, and whether at a tie.

In: what two fingerprints say of one probe's generation, and what rounding does to the reference. Out: what it adds to
a `Tally`.

Greedy generation takes the greatest score. Where the logits of a step are another rounding of the reference's, its
token may be another one only if the reference's own two scores are no further apart than rounding moves them: two
elements, each rounded in two runs, so within `SURE` standard deviations of sqrt(2 (1 + ratio^2)) roundings of one
element. After such a tie that row's prompt is another, and nothing of it is compared; before it everything is. Sampled
tokens do not say by what they were chosen: those that part are judged by nothing.
"""

import math
import re
from collections.abc import Iterator, Mapping

from theworld_validate.compare.rounding import Missing, Ratio
from theworld_validate.compare.tally import Tally, comparable, differ, pairs, take_answer
from theworld_validate.documents.choices import Choice
from theworld_validate.documents.observations import Fingerprint, Observation, Section
from theworld_validate.results import Finding, Scalar

SURE = 4.0
_GREEDY = ("greedy", "static")
_STEP = re.compile(r"(?P<way>greedy|static)_logits\[(?P<step>\d+)\]")
_SECTION = "generation"
_Pair = tuple[str, Observation | None, Observation | None]


def judge_generation(
    tally: Tally, probe: str, reference: Fingerprint, candidate: Fingerprint, truth: Fingerprint | None
) -> None:
    """Judge all ways of generating of one probe."""
    prefix = f"{probe}/"
    sections = [side.subset(_SECTION, prefix) for side in (reference, candidate)]
    steps: dict[str, list[_Pair]] = {}
    others: list[_Pair] = []
    for pair in pairs(_SECTION, *sections):
        step = _STEP.fullmatch(pair[0].removeprefix(prefix))
        (steps.setdefault(step["way"], []) if step else others).append(pair)
    for way, entries in steps.items():
        if all(prefix + way in side for side in sections):  # else it is said below: an answer that is not there
            _Way(tally, prefix + way, reference, candidate, truth).judge(entries)
    for location, ours, theirs in others:
        word = location.removeprefix(prefix)
        if word in _GREEDY and word in steps and None not in (ours, theirs):
            tally.num_identical += ours == theirs  # where they part, the steps have said it
        elif word == "sampled" and ours != theirs and None not in (ours, theirs) and tally.ratios:
            tally.missing[f"{location}: tokens part, and a draw does not say whether rounding did it"] = None
        elif word.startswith("beams"):
            _judge_beams(tally, prefix, location, sections, truth)
        else:
            take_answer(tally, _SECTION, location, ours, theirs)


def _judge_beams(tally: Tally, prefix: str, location: str, sides: list[Section], truth: Fingerprint | None) -> None:
    """Other beams than the reference's are as good as those only if their scores are, and say so."""
    ours, theirs = (side.get(location) for side in sides)
    beams = [side.get(f"{prefix}beams") for side in sides]
    beside = _has_other_tokens(truth, f"{prefix}beams", beams[0])  # the truth's scores are of other beams
    if beams[0] == beams[1] or not tally.ratios or _form_of(beams[0]) != _form_of(beams[1]):
        take_answer(tally, _SECTION, location, ours, theirs, beside=beside)
        return
    scores = [side.get(f"{prefix}beams_scores") for side in sides]
    if not comparable(*scores) or scores[0] == scores[1]:
        tally.missing[f"{location}: other beams, and no scores that show a tie"] = None
    elif location.endswith("_scores"):
        ratio = tally.take_number(_SECTION, location, beside=beside)
        if ratio is not None and ratio.ratio > tally.bounds.ratio:
            tally.ratios.remove(ratio)
            tally.missing[f"{location}: other beams, whose scores are not those of a tie"] = None
    else:
        tally.num_elsewhere += 1


def _has_other_tokens(truth: Fingerprint | None, place: str, ours: Observation | None) -> bool:
    """Whether the truth chose other tokens than the reference, so that what follows them is of another prompt."""
    if truth is None:
        return False
    return truth.sections.get(_SECTION, {}).get(place, {}).get("digest") != (ours or {}).get("digest")


def _form_of(seen: Observation | None) -> Scalar:
    """Dtype and shape, or the word that stands for an answer."""
    return None if seen is None else seen.get("tensor")


class _Way:
    """One way of generating greedily, step by step, until it parts from the reference's."""

    def __init__(
        self,
        tally: Tally,
        place: str,
        reference: Fingerprint,
        candidate: Fingerprint,
        truth: Fingerprint | None,
    ) -> None:
        self._tally, self._place = tally, place
        self._chosen: tuple[Mapping[str, tuple[Choice, ...]], ...] = (reference.choices, candidate.choices)
        self._true_choices = {} if truth is None else truth.choices
        ours, theirs = (side.sections[_SECTION][place] for side in (reference, candidate))
        self._parts, self._sides = ours != theirs, (ours, theirs)
        self._truth_parts = _has_other_tokens(truth, place, ours)
        self._is_beside = False  # whether the truth's prompt is another one by now

    def judge(self, entries: list[_Pair]) -> None:
        """Judge each step whose prompt is the reference's, and of the others each row's choice while its prompt is."""
        if _form_of(self._sides[0]) != _form_of(self._sides[1]):
            self._tally.exact += differ(_SECTION, self._place, *self._sides)
        parted: set[int] = set()  # rows whose prompts are others by now
        for location, ours, theirs in entries:
            ratio: Ratio | None = None
            if ours is None or theirs is None:
                take_answer(self._tally, _SECTION, location, ours, theirs)
                continue
            if parted:
                self._tally.num_elsewhere += 1
            elif ours == theirs:
                self._tally.num_identical += 1
            else:
                known = len(self._tally.ratios)
                take_answer(self._tally, _SECTION, location, ours, theirs, beside=self._is_beside)
                ratio = self._tally.ratios[-1] if len(self._tally.ratios) > known else None
                if ratio is None or ratio.ratio > self._tally.bounds.ratio:
                    return  # what follows follows from it
            if self._parts:
                more = self._parting(location, ratio, parted, is_equal=not parted and ours == theirs)
                if more is None:
                    return
                parted |= more
            self._follow_truth(location)
        if self._parts and not parted:  # by no step: of another prompt, say
            self._tally.exact += differ(_SECTION, self._place, *self._sides)

    def _parting(self, location: str, ratio: Ratio | None, parted: set[int], *, is_equal: bool) -> set[int] | None:
        """The rows that part at this step, each of which is said to be what it is; None if nobody can say.

        Args:
            parted: rows that have parted before.
            is_equal: whether the logits of this step are equal bit for bit.
        """
        ours, theirs = (chosen.get(location) for chosen in self._chosen)
        if ours is None or theirs is None:
            self._tally.missing[f"{location}: tokens part, and by what they were chosen is not in the files"] = None
            return None
        if len(ours) != len(theirs):
            return set()
        rows = zip(range(len(ours)), ours, theirs, strict=True)
        more = [(row, a, b) for row, a, b in rows if row not in parted and a.token != b.token]
        for row, a, b in more:
            try:
                self._tally.exact += self._other_choice(location, row, a, b, ratio, is_equal=is_equal)
            except Missing as why:
                self._tally.missing[str(why)] = None
        return {row for row, _, _ in more}

    def _other_choice(
        self, location: str, row: int, ours: Choice, theirs: Choice, ratio: Ratio | None, *, is_equal: bool
    ) -> Iterator[Finding]:
        says = f"{location}, row {row}: the candidate chooses token {theirs.token}, the reference {ours.token}, "
        if is_equal:
            yield _choice_finding(location, f"{says}by logits that are equal bit for bit", ours, theirs)
            return
        if not ours.is_greatest:
            raise Missing(f"{location}: the reference does not choose its greatest score, and so no tie can be told")
        if not theirs.is_greatest:
            yield _choice_finding(location, f"{says}and it is not the candidate's own greatest score", ours, theirs)
            return
        score = ours.score_of(theirs.token)
        ahead = ours.best[0][1] - (ours.best[-1][1] if score is None else score)
        rounding = self._tally.rounding_of(_SECTION, location, ratio, ours.best[0][1])
        allowed = SURE * math.sqrt(2 * (1 + max(1.0, ratio.ratio if ratio else 1.0) ** 2)) * rounding
        if ahead > allowed:
            least = "at least " if score is None else ""
            times = f"{ahead / rounding:,.3g} times what rounding does to one" if rounding else "and nothing is rounded"
            yield _choice_finding(
                location, f"{says}whose score is ahead by {least}{ahead:.3g}, {times}: no tie", ours, theirs
            )
        elif score is None:
            raise Missing(f"{location}: more scores are tied than the files hold")

    def _follow_truth(self, location: str) -> None:
        """After the truth chose another token, its logits are of another prompt."""
        if not self._truth_parts or self._is_beside:
            return
        ours, true = self._chosen[0].get(location), self._true_choices.get(location)
        if ours is None or true is None or len(ours) != len(true):
            self._is_beside = True
            return
        self._is_beside = any(a.token != b.token for a, b in zip(ours, true, strict=True))


def _choice_finding(location: str, message: str, ours: Choice, theirs: Choice) -> Finding:
    return Finding(
        code=f"{_SECTION}.choice",
        location=location,
        message=message,
        expected=ours.token,
        actual=theirs.token,
        section=_SECTION,
        field="choice",
    )
