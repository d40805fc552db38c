"""What can explain a round trip: state that saving does not keep, or files that are written otherwise.

In: two nodes, the second of the section "round_trip". Out: how near the first is as its explanation, or None.
"""

from theworld_validate.compare.causes import Cause
from theworld_validate.compare.nodes import Node
from theworld_validate.compare.places import Place
from theworld_validate.documents.observations import STATE_SECTIONS

_ELSEWHERE = 50
# Kinds of state whose keys or tensors differ in every saved file.
_CHANGES_KEYS = {
    Cause.ADAPTER,
    Cause.EXTRA_STATE,
    Cause.MISSING_STATE,
    Cause.MODULE_CLASS,
    Cause.BUFFER_REGISTRATION,
    Cause.WEIGHT_SHAPE,
}
_ADDS_STATE = {Cause.ADAPTER, Cause.EXTRA_STATE, Cause.MODULE_CLASS}


def explains_saved(root: Node, other: Node) -> int | None:
    """What explains that files differ, or that a model does not come back as it was saved."""
    place = other.place
    if root.section == "round_trip":
        return _explains_within(root, other)
    if root.field == "raised" and root.section in STATE_SECTIONS:  # saving and loading ask for it too
        return 5
    if not root.is_state:
        return None
    if root.cause is Cause.LOST_TIE:
        return 0 if _is_table(place) or place.name == "tie_word_embeddings" else None
    if place.part == "written":
        return _explains_written(root, other)
    if root.cause in _ADDS_STATE:
        return 1 if other.field in ("missing", "extra", "class", "tied_to", "dtype") else 6
    if root.cause is Cause.WEIGHT_DTYPE and (other.field == "dtype" or place.name.endswith("dtype")):
        return 3  # a model of two dtypes is loaded again in one
    if root.section in ("parameters", "buffers", "config") and _is_of_section(root, place):
        if _shares_name(root, other):
            return 1
        return 2 if root.field == other.field or not root.knows_all_places else None
    if root.section == "config" and place.part == "buffers":
        return 3  # a buffer comes back as the config makes it
    return None


def _explains_written(root: Node, other: Node) -> int | None:
    if root.section not in ("parameters", "buffers", "modules"):
        return 4 if root.cause is Cause.CONFIG_VALUE and other.field == "shape" else None
    if root.cause in (Cause.WEIGHT_DTYPE, Cause.BUFFER_DTYPE):
        return 1 if other.field == "dtype" else None
    if root.cause in _CHANGES_KEYS:
        return 1 if other.field in ("missing", "extra", "shape") else None
    return None


def _explains_within(root: Node, other: Node) -> int | None:
    """Files that are written otherwise explain what is loaded from them; and the first difference of a kind others."""
    parts = (root.place.part, other.place.part)
    if root.field == "raised":
        return None if parts[1] == "written" else 5
    if parts[0] == "written" and parts[1] != "written":
        near = 2 if _shares_name(root, other) else 3
        return near if parts[1] in ("parameters", "base") else None
    if parts == ("written", "written"):
        renamed = (root.field, other.field) == ("missing", "extra") and _shares_name(root, other)
        same = root.field == other.field != "extra" and root.index < other.index
        return 4 if renamed or same else None
    if parts == ("parameters", "base"):
        return 4
    if parts[0] == parts[1] and root.field == other.field and root.index < other.index:
        return _ELSEWHERE
    return None


def _is_of_section(root: Node, place: Place) -> bool:
    return place.part == root.section or (place.part == "base" and root.section in ("parameters", "buffers"))


def _is_table(place: Place) -> bool:
    return any(word in place.module for word in ("head", "embed"))


def _shares_name(root: Node, other: Node) -> bool:
    """Whether both are about a tensor of one name in one module, whatever stands before the module."""

    def tail(place: Place) -> tuple[str, str]:
        return place.module.rpartition(".")[2], place.name

    return bool({tail(place) for place in root.places} & {tail(place) for place in other.places})
