"""How far from the truth a tensor is, in units of what rounding does there.

In: three fingerprints with sketches: reference, candidate, and the truth, which is the reference in a wider dtype.
Out: a `Ratio` for a place: |candidate - truth| over |reference - truth|. About 1 is another rounding of the same
numbers; a bug is a multiple.

Where the reference rounds nothing (an embedding is looked up), or by chance hardly anything (a loss is one number),
the unit is a floor: one rounding of every element, eps / sqrt(12) of the norm (the standard deviation of a number
that is rounded to multiples of eps); and for tensors of fewer than `FEW` elements also what rounding does to the
probe's other tensors, relative to their norms. Where the truth is next to nothing (the gradient of a key's bias, which
softmax cancels), all of the reference is rounding, and the unit is what rounding does to the probe's other tensors.
The loss of a training step is judged as what it is, a forward's: by what rounding does to the tensors of all forwards,
and not to gradients, which it moves much further.
What the control, the reference's second run, differs by counts as rounding too.
"""

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from theworld_validate.documents.observations import LOSS, PROBE_SECTIONS, Fingerprint, Observation, probe_of
from theworld_validate.documents.sketches import Sketch, distance_between, norm_of

# Spacing of a dtype's numbers above 1: torch.finfo(dtype).eps.
EPS = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float8_e4m3fn": 2.0**-3,
    "float8_e5m2": 2.0**-2,
}
# The dtype of a truth; none is wider than float64.
WIDER = {"float32": "float64", "bfloat16": "float32", "float16": "float32"}
ONE_ROUNDING = 1 / math.sqrt(12)
FEW = 256
MOST_ROUNDING = 0.5  # of a tensor's norm: what is further from the truth is no rounding of it
MOST = 1e12  # a ratio that is shown; of what nothing rounds, it would be infinite
_FORWARDS = "(forwards)"  # the group of what the forwards of all probes give
_DESCRIBED = re.compile(r"(?P<dtype>[a-z0-9_]+)(?P<shape>\[[0-9, ]*\])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How far a candidate's tensor is from the truth.

    Args:
        section, location: where.
        ratio: its distance, in units of `rounding`.
        rounding: the unit, relative to the truth's norm; None where that is 0.
    """

    section: str
    location: str
    ratio: float
    rounding: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usual:
    """What rounding does to the tensors of a probe: as a distance, and relative to their norms."""

    of_element: float = 0.0
    relative: float = 0.0


class Missing(Exception):  # noqa: N818 - no error: what is told is what is missing
    """Why a place cannot be judged by its numbers."""


def shape_of(seen: Observation) -> tuple[str, str] | None:
    """Dtype and shape of an observed tensor, "bfloat16" and "[2, 3]"; None where it is none."""
    described = seen.get("tensor", seen.get("gradient"))
    found = _DESCRIBED.fullmatch(described) if isinstance(described, str) else None
    return (found["dtype"], found["shape"]) if found else None


def is_number(seen: Observation) -> bool:
    """Whether an observed tensor is of a floating-point dtype."""
    shape = shape_of(seen)
    return shape is not None and shape[0] in EPS


class Rounding:
    """What rounding does to a reference, place by place, and how far a candidate is from the truth beside it."""

    def __init__(
        self, reference: Fingerprint, candidate: Fingerprint, truth: Fingerprint, control: Fingerprint | None
    ) -> None:
        self._reference, self._candidate, self.truth, self._control = reference, candidate, truth, control

    def ratio_at(self, section: str, location: str) -> Ratio:
        """Judge one place that both sides have, of one shape.

        Raises:
            Missing: if a sketch or the truth of it is missing.
        """
        ours = _sketch_of("the reference", self._reference, section, location)
        theirs = _sketch_of("the candidate", self._candidate, section, location)
        true = _sketch_of("the truth", self.truth, section, location)
        if not ours.elements == theirs.elements == true.elements:
            raise Missing(f"{location}: the truth has another size")
        if theirs.non_finite_chunks != ours.non_finite_chunks:
            return Ratio(section=section, location=location, ratio=MOST, rounding=None)
        if ours.non_finite_chunks or true.non_finite_chunks:
            raise Missing(f"{location}: numbers that are not finite have no distance")
        norm = norm_of(true)
        rounded = distance_between(ours, true)
        usual = self._usual.get(_group(section, location), _Usual())
        unit = max(rounded, EPS.get(ours.dtype, 0.0) * ONE_ROUNDING * norm)
        if rounded > MOST_ROUNDING * norm:
            unit = usual.of_element * math.sqrt(ours.elements)
            if rounded > unit or usual.relative > MOST_ROUNDING:
                raise Missing(f"{location}: the reference is no rounding of the truth, which is of another run")
        if ours.elements < FEW:
            unit = max(unit, usual.relative * norm)
        if self._control is not None:
            again = self._control.sections.get(section, {}).get(location, {}).get("digest")
            if (other := self._control.sketches.get(str(again))) is not None and other.elements == ours.elements:
                unit = max(unit, distance_between(ours, other))
        apart = distance_between(theirs, true)
        ratio = 0.0 if not apart else min(apart / unit, MOST) if unit else MOST
        return Ratio(section=section, location=location, ratio=ratio, rounding=unit / norm if norm else None)

    def ratio_without_truth(self, section: str, location: str) -> Ratio:
        """Judge one place by what rounding usually does in its probe: candidate and reference are two roundings apart.

        Raises:
            Missing: if a sketch is missing, or nothing of the probe has a truth.
        """
        ours = _sketch_of("the reference", self._reference, section, location)
        theirs = _sketch_of("the candidate", self._candidate, section, location)
        usual = self._usual.get(_group(section, location))
        if usual is None:
            raise Missing(f"{location}: what rounding does there is not known")
        if theirs.non_finite_chunks != ours.non_finite_chunks:
            return Ratio(section=section, location=location, ratio=MOST, rounding=None)
        if ours.non_finite_chunks:
            raise Missing(f"{location}: numbers that are not finite have no distance")
        norm = norm_of(ours)
        unit = math.sqrt(2) * max(usual.relative, EPS.get(ours.dtype, 0.0) * ONE_ROUNDING) * norm
        apart = distance_between(ours, theirs)
        ratio = 0.0 if not apart else min(apart / unit, MOST) if unit else MOST
        return Ratio(section=section, location=location, ratio=ratio, rounding=unit / norm if norm else None)

    def of_element(self, section: str, location: str, ratio: Ratio | None, value: float) -> float:
        """What rounding does to one element of that value: as much of it, or of the tensor's usual one, as of all.

        Args:
            ratio: the place's; None where both sides are equal bit for bit.

        Raises:
            Missing: if a sketch is missing.
        """
        ours = _sketch_of("the reference", self._reference, section, location)
        usually = self._usual.get(_group(section, location), _Usual()).relative
        relative = usually if ratio is None else ratio.rounding
        usual = norm_of(ours) / math.sqrt(ours.elements)
        return (relative or 0.0) * max(usual, abs(value))

    @cached_property
    def _usual(self) -> dict[str, "_Usual"]:
        """What rounding does to tensors of many elements: the medians of each probe's, and of all forwards'."""
        seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for section in (*PROBE_SECTIONS, "gradients"):
            for location in self._reference.sections.get(section, {}):
                try:
                    ours = _sketch_of("the reference", self._reference, section, location)
                    true = _sketch_of("the truth", self.truth, section, location)
                except Missing:
                    continue
                if ours.elements == true.elements and ours.elements >= FEW and (norm := norm_of(true)):
                    rounded = distance_between(ours, true)
                    of_one = (rounded / math.sqrt(ours.elements), rounded / norm)
                    seen[_group(section, location)].append(of_one)
                    if section != "gradients":
                        seen[_FORWARDS].append(of_one)
        return {
            group: _Usual(of_element=median(one for one, _ in values), relative=median(one for _, one in values))
            for group, values in seen.items()
        }


def not_finite_in(fingerprint: Fingerprint) -> frozenset[str]:
    """Digests of tensors that hold numbers which are not finite, as far as there are sketches."""
    return frozenset(digest for digest, sketch in fingerprint.sketches.items() if sketch.non_finite_chunks)


def is_wider(truth: Fingerprint, reference: Fingerprint) -> bool:
    """Whether most of the truth's tensors are of a dtype that rounds less than that of most of the reference's."""
    usual = []
    for side in (truth, reference):
        dtypes = Counter(sketch.dtype for sketch in side.sketches.values())
        usual.append(EPS.get(dtypes.most_common(1)[0][0], math.inf) if dtypes else math.inf)
    return usual[0] < usual[1]


def is_training_loss(section: str, location: str) -> bool:
    """Whether a place among the gradients is the loss that they are of, which a forward gives."""
    return section == "gradients" and location.startswith(LOSS)


def _group(section: str, location: str) -> str:
    if is_training_loss(section, location):
        return _FORWARDS  # which probe's it is, is not written down
    return section if section == "gradients" else probe_of(location)


def _sketch_of(who: str, side: Fingerprint, section: str, location: str) -> Sketch:
    seen = side.sections.get(section, {}).get(location)
    if seen is None:
        raise Missing(f"{location}: {who} has no such place")
    sketch = side.sketches.get(str(seen.get("digest")))
    if sketch is None:
        raise Missing(f"{location}: {who} has no sketch of it; take it with --sketch")
    described = shape_of(seen)
    if described is None or described[0] != sketch.dtype:
        raise Missing(f"{location}: {who}'s sketch is of another tensor")
    return sketch
