"""A finding made ready to be explained: its kind of cause and its places, read once.

In: findings, and the evidence beside them. Out: `Node`s, which the rules of `reach` are about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from theworld_validate.compare.causes import Cause, WeightEvidence, classify, field_of, section_of
from theworld_validate.compare.places import Place, place_of
from theworld_validate.documents.observations import STATE_SECTIONS
from theworld_validate.results import Finding

# Sections of which a difference cannot follow from what the model does, only from what it is.
WHAT_IT_IS = ("files", *STATE_SECTIONS)
# Kinds of state that no result depends on; or, of patched code, of which nobody can say whether it was run, and where.
_WITHOUT_EFFECT = {
    Cause.WRAPPER,
    Cause.TRAINABLE_FLAG,
    Cause.LEFTOVER_GRADIENT,
    Cause.LOADS_DIFFER,
    Cause.BUFFER_REGISTRATION,
    Cause.RNG_USE,
    Cause.EXTRA_KEY,
    Cause.PATCHED_CODE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known beyond the findings themselves.

    Args:
        compared: sections that both sides have whole.
        weights: what a second look measured, by the name of a parameter whose bits differ; may be empty.
        inputs_equal: location of a trace -> whether that module's inputs were equal; only where it was measured.
        candidate_repeats: whether the candidate gives the same results twice; None if it was not asked.
        places: a finding's key -> all places that it stands for, as `differences.differing_places` gives them; where
            a key is not there, only the first place is known.
    """

    compared: frozenset[str] = frozenset()
    weights: Mapping[str, WeightEvidence] = field(default_factory=dict)
    inputs_equal: Mapping[str, bool] = field(default_factory=dict)
    candidate_repeats: bool | None = None
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One finding among others.

    Args:
        index: its position among the findings.
        places: the first is the finding's own.
        knows_all_places: whether `places` are all that the finding stands for.
    """

    index: int
    finding: Finding
    section: str
    field: str
    cause: Cause
    places: tuple[Place, ...]
    knows_all_places: bool

    @property
    def place(self) -> Place:
        """The first place."""
        return self.places[0]

    @property
    def is_state(self) -> bool:
        """Whether it is about what the model is, not what it does."""
        return self.section in WHAT_IT_IS and self.cause is not Cause.RAISED

    @property
    def changes_results(self) -> bool:
        """Whether outputs can depend on it."""
        hooks_a_gradient = self.section == "parameters" and self.cause is Cause.HOOK
        return self.is_state and self.cause not in _WITHOUT_EFFECT and not hooks_a_gradient

    @property
    def is_for_generation_alone(self) -> bool:
        """Whether only `generate` reads it."""
        return self.section == "config" and self.place.part == "generation_config"

    @property
    def names(self) -> set[str]:
        """The names at all known places."""
        return {place.name for place in self.places}


def make_nodes(findings: Sequence[Finding], evidence: Evidence) -> tuple[Node, ...]:
    """Read every finding's places and kind."""
    nodes = []
    for i, finding in enumerate(findings):
        section = section_of(finding)
        locations = evidence.places.get(finding.key, (finding.location,))
        cause = classify(finding, evidence.weights.get(finding.location))
        nodes.append(
            Node(
                index=i,
                finding=finding,
                section=section,
                field=field_of(finding),
                cause=cause,
                places=tuple(place_of(section, location) for location in locations),
                knows_all_places=finding.key in evidence.places,
            )
        )
    return tuple(nodes)
