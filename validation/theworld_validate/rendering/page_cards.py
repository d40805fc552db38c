"""The cards of the page: root causes, each with what follows from it folded beneath; a bounded number of both.

In: a report's roots. Out: what the template lays out, as text that is already bounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from theworld_validate.rendering.findings import Found, Root, group_roots
from theworld_validate.rendering.names import anchor_of, finding_anchor
from theworld_validate.rendering.plain_text import line, prose
from theworld_validate.rendering.tables import format_value

_NUM_OPEN = 3  # of roots that differ in their messages alone; the others are folded
_MAX_CARDS = 300
_MAX_FOLLOWING = 50  # of one root
_MAX_FOLLOWING_IN_ALL = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """One line under a card."""

    anchor: str
    check: str
    check_anchor: str
    message: str
    code: str
    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One root cause; `values` and `reasons` are terms with their descriptions."""

    anchor: str
    style: str
    severity: str
    check: str
    check_anchor: str
    message: str
    code: str
    values: list[tuple[str, str]]
    reasons: list[tuple[str, str]]
    num_following: int
    following: list[Consequence]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardGroup:
    """Cards that share cause and remedy: some are open, the others folded."""

    code: str
    open_cards: list[Card]
    folded_cards: list[Card]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """All cards that the page shows; the others are counted."""

    groups: list[CardGroup]
    num_roots: int
    num_following: int
    num_left_out: int


class _Anchors:
    """Anchors that no two elements share."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def next(self, anchor: str) -> str:
        number = self._seen[anchor] = self._seen.get(anchor, 0) + 1
        return anchor if number == 1 else f"{anchor}-{number}"


def make_cards(roots: Sequence[Root]) -> Cards:
    """Make the cards of a report's roots, in their order."""
    shown = roots[:_MAX_CARDS]
    anchors, room = _Anchors(), _MAX_FOLLOWING_IN_ALL
    groups = []
    for group in group_roots(shown):
        cards = []
        for root in group:
            card = _card(root, anchors, min(room, _MAX_FOLLOWING))
            room -= len(card.following)
            cards.append(card)
        num_open = _NUM_OPEN if len(cards) > _NUM_OPEN + 1 else len(cards)
        groups.append(CardGroup(code=cards[0].code, open_cards=cards[:num_open], folded_cards=cards[num_open:]))
    return Cards(
        groups=groups,
        num_roots=len(roots),
        num_following=sum(len(root.follows) for root in roots),
        num_left_out=len(roots) - len(shown),
    )


def _card(root: Root, anchors: _Anchors, num_following: int) -> Card:
    finding = root.found.finding
    values = (("expected", finding.expected), ("actual", finding.actual))
    reasons = (("cause", finding.cause), ("remedy", finding.remedy))
    places = [("where", finding.location)]
    if finding.code != f"{finding.section}.{finding.field}":  # which says both
        places += [(name, text) for name, text in (("section", finding.section), ("field", finding.field)) if text]
    return Card(
        anchor=anchors.next(finding_anchor(root.found.check, finding)),
        style=str(root.found.status) if root.found.is_error else "warning",
        severity=finding.severity,
        check=line(root.found.check),
        check_anchor=anchor_of(root.found.check),
        message=prose(finding.message),
        code=line(finding.code),
        values=[
            *((name, line(text)) for name, text in places),
            *((name, format_value(value) or "(empty)") for name, value in values if value is not None),
        ],
        reasons=[(name, prose(text)) for name, text in reasons if text],
        num_following=len(root.follows),
        following=list(_following(root.follows[:num_following], anchors)),
    )


def _following(follows: Sequence[Found], anchors: _Anchors) -> Iterator[Consequence]:
    for found in follows:
        yield Consequence(
            anchor=anchors.next(finding_anchor(found.check, found.finding)),
            check=line(found.check),
            check_anchor=anchor_of(found.check),
            message=prose(found.finding.message, 500),
            code=line(found.finding.code),
            location=line(found.finding.location),
        )
