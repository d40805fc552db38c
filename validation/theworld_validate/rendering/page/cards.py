"""The cards of the page: a cause and its remedy once, with every place that it has and what follows from it folded.

In: a report's roots. Out: what the template lays out, as text that is already bounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from theworld_validate.rendering.findings import Found, Root
from theworld_validate.rendering.names import anchor_of, finding_anchor
from theworld_validate.rendering.plain_text import line, prose
from theworld_validate.rendering.tables import evidence_of, format_value
from theworld_validate.results import Finding

_MAX_PLACES = 300  # of all cards
_MAX_FOLLOWING = 50  # of one card
_MAX_FOLLOWING_IN_ALL = 3_000
_MAX_RELEASES = 6  # named in a title
_OF_THE_CODE = ("section", "field")  # values that all places of a card share


class Anchors:
    """Anchors that no two elements share."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, found: Found) -> str:
        """The anchor of a finding; numbered where it is there again."""
        anchor = finding_anchor(found.check, found.finding)
        number = self._seen[anchor] = self._seen.get(anchor, 0) + 1
        return anchor if number == 1 else f"{anchor}-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One finding: where, in which check, and its values."""

    anchor: str
    check: str
    check_anchor: str
    message: str
    values: list[tuple[str, str]]

    @property
    def news(self) -> list[tuple[str, str]]:
        """What of its values its message does not say."""
        return [(name, text) for name, text in self.values if name not in _OF_THE_CODE and text not in self.message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What one check found that follows from a card."""

    check: str
    check_anchor: str
    found: list[tuple[str, str]]  # the anchor, the message


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One cause.

    Args:
        kind, reason: of the cause: its name, and the sentence after it; both empty where none is known.
        releases: that have it, of a comparison of releases; they open the card, before the first place's message.
        places: where it was found; the first one's message opens the card.
        num_following: how many findings follow from it; `following` has those that are shown.
    """

    style: str
    severity: str
    code: str
    kind: str
    reason: str
    remedy: str
    releases: str
    places: list[Place]
    num_following: int
    following: list[Consequences]

    @property
    def checks(self) -> list[tuple[str, str]]:
        """The checks that found it, each once, and their anchors: of two releases with one cause, both."""
        return list(dict.fromkeys((place.check, place.check_anchor) for place in self.places))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """All cards of one severity; what the page does not show is counted."""

    cards: list[Card]
    num_following: int
    num_left_out: int

    @property
    def num_causes(self) -> int:
        """Of the report, as the cards count them."""
        return len(self.cards)


@dataclass(slots=True, kw_only=True)
class Room:
    """What all cards of a page share: anchors, the releases by check, and how much may still be shown."""

    anchors: Anchors = field(default_factory=Anchors)
    releases: Mapping[str, str] = field(default_factory=dict)
    places: int = _MAX_PLACES
    following: int = _MAX_FOLLOWING_IN_ALL


def make_cards(roots: Sequence[Root], room: Room) -> Cards:
    """Make the cards of roots, in their order; those that share code, severity, cause and remedy are one card."""
    groups: dict[object, list[Root]] = {}
    for index, root in enumerate(roots):
        groups.setdefault(_shared(root, index), []).append(root)
    cards, num_left_out = [], 0
    for group in groups.values():
        shown = group[: room.places]
        num_left_out += len(group) - len(shown)
        if shown:
            room.places -= len(shown)
            cards.append(_card(shown, room))
    return Cards(
        cards=cards,
        num_following=sum(len(root.follows) for root in roots),
        num_left_out=num_left_out,
    )


def _shared(root: Root, index: int) -> object:
    """What roots of one card have in common; a root that says neither why nor what to do has a card of its own."""
    finding = root.found.finding
    if not (finding.cause or finding.remedy):
        return index
    return finding.code, finding.severity, finding.cause, finding.remedy


def _card(group: Sequence[Root], room: Room) -> Card:
    first = group[0].found
    kind, reason = _split_cause(first.finding.cause)
    places = [_place(root.found, room.anchors) for root in group]
    follows = [found for root in group for found in root.follows]
    shown = follows[: min(_MAX_FOLLOWING, room.following)]
    room.following -= len(shown)
    return Card(
        style=str(first.status) if first.is_error else "warning",
        severity=first.finding.severity,
        code=line(first.finding.code),
        kind=kind,
        reason=reason,
        remedy=prose(first.finding.remedy or ""),
        releases=_releases(group, room),
        places=places,
        num_following=len(follows),
        following=list(_consequences(shown, room.anchors)),
    )


def _releases(group: Sequence[Root], room: Room) -> str:
    names = list(dict.fromkeys(name for root in group if (name := room.releases.get(root.found.check))))
    more = len(names) - _MAX_RELEASES
    return ", ".join([*names[:_MAX_RELEASES], *([f"{more} more"] if more > 0 else [])])


def _split_cause(cause: str | None) -> tuple[str, str]:
    """A cause's kind and its sentence: "lost tie: the head has a table of its own"."""
    kind, colon, reason = prose(cause or "").partition(": ")
    return (kind, reason) if colon and len(kind) < 60 else ("", kind + colon + reason)


def _place(found: Found, anchors: Anchors) -> Place:
    return Place(
        anchor=anchors.of(found),
        check=line(found.check),
        check_anchor=anchor_of(found.check),
        message=prose(found.finding.message),
        values=list(_values(found.finding)),
    )


def _values(finding: Finding) -> Iterator[tuple[str, str]]:
    yield "where", line(finding.location)
    for name, value in evidence_of(finding):
        yield name, format_value(value) or "(empty)"
    if finding.section and finding.code != f"{finding.section}.{finding.field}":  # which says both
        yield from (
            (name, line(text)) for name, text in (("section", finding.section), ("field", finding.field)) if text
        )


def _consequences(follows: Sequence[Found], anchors: Anchors) -> Iterator[Consequences]:
    by_check: dict[str, list[tuple[str, str]]] = {}
    for found in follows:
        by_check.setdefault(found.check, []).append((anchors.of(found), prose(found.finding.message, 500)))
    for check, those in by_check.items():
        yield Consequences(check=line(check), check_anchor=anchor_of(check), found=those)
