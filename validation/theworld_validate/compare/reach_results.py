"""What can explain a result: a module's call, an answer, a gradient, an output that is not finite, or an error.

In: two nodes, the second about what a model does. Out: how near the first is as its explanation, or None.
"""

from theworld_validate.compare.causes import Cause
from theworld_validate.compare.nodes import Node
from theworld_validate.compare.places import Place, is_above
from theworld_validate.documents.observations import NOT_ASKED

_ABSENT = ("missing", "extra")
_ELSEWHERE = 50  # the same kind of difference, met earlier in another probe
_BITS = {Cause.WEIGHT_BITS, Cause.REINITIALISED, Cause.BUFFER_VALUE, Cause.NON_FINITE_WEIGHT}
_DTYPES = {Cause.WEIGHT_DTYPE, Cause.BUFFER_DTYPE}
_EVERYWHERE = {
    Cause.CONFIG_VALUE: 4,
    Cause.GLOBAL_HOOK: 5,
    Cause.GLOBAL_FLAG: 5,
    Cause.DEVICE: 5,
    Cause.SHADOWED_FILE: 6,
}
# Global state under which another's code fails: it is asked for tensors elsewhere, of another dtype, or through a mode.
_BREAKS_ANY_CODE = {"default_device", "default_dtype", "function_modes", "dispatch_modes", "inference_mode"}
# Without one of these modules or tensors, or with another shape, a call fails.
_BREAKS_CALLS = {Cause.MODULE_CLASS, Cause.MISSING_STATE}
# Of the answers of one probe: which can follow from which.
_FOLLOWS = {
    "cache": {"logits"},
    "decoded": {"logits", "cache"},
    "loss_by_count": {"logits"},
    "row": {"logits"},
    "embeds": {"logits"},
    "arguments": {"logits"},
    "untraced": {"logits", "decoded"},
    "greedy": {"logits", "decoded", "cache"},
    "sampled": {"logits", "decoded", "cache", "greedy", "rng_state"},
    "beams": {"logits", "decoded", "cache", "greedy"},
    "static": {"logits", "decoded", "greedy"},
    "rng_state": set(),
    "logits": set(),
}
# Made by decoding steps that no trace sees. All others run the modules that a trace has seen, on the same tokens.
_UNTRACED = {"greedy", "sampled", "rng_state"}


def explains_call(root: Node, other: Node) -> int | None:
    """What explains the first place where a trace differs."""
    place = other.place
    if root.field == "raised" and root.section == "trace":
        return 0 if root.place.probe == place.probe else None
    if root.changes_results and not root.is_for_generation_alone:
        if place.port == "attention_mask" and root.cause in _BITS:
            return None  # masks are built from ids and types, not from weights
        if place.is_rotary and root.cause in _BITS and not root.place.is_rotary:
            return None  # nor are angles
        return _near(root, place)
    if root.section == "outputs" and root.field == "non_finite":
        return 40 if root.place.probe == place.probe else None
    if root.section == "outputs" and root.cause is other.cause is Cause.CACHE:
        return 45
    if root.section == "trace" and root.field != "raised" and root.index < other.index and root.cause is other.cause:
        return _ELSEWHERE if root.place.component == place.component else None
    return None


def _near(root: Node, place: Place) -> int | None:
    """How near a difference of state is to a module's call: in it, around it, everywhere, or in the same part."""
    if root.cause in _EVERYWHERE:
        return _EVERYWHERE[root.cause]
    if root.cause is Cause.MODULE_CLASS and root.field == "transformers_class":
        return 3
    module = place.module
    owners = [seen.module for seen in root.places]
    if root.section == "modules" and root.cause is Cause.EXTRA_STATE:
        return 1 if any(owner and is_above(owner, module) for owner in owners) else None
    if module in owners:
        return 0
    if any(owner and is_above(owner, module) for owner in owners):
        return 1
    if any(is_above(module, owner) for owner in owners) and place.port is None:
        return 2
    if any("embed" in owner.rpartition(".")[2] for owner in owners) and module.endswith("head"):
        return 2  # the head's table is the embedding's
    if "" in owners and root.section == "modules":
        return 3
    if root.section == "parameters" and root.cause is Cause.LOST_TIE:
        return None
    if root.cause in _DTYPES and root.place.component == place.component:
        return 6
    # Only one of its places is known: another may be nearer.
    is_near = not root.knows_all_places and root.place.component == place.component
    return 7 if is_near and root.field != "hooks" else None


def explains_answer(root: Node, other: Node) -> int | None:
    """What explains an answer: the trace of its probe, an answer before it, or state that no trace sees."""
    place = other.place
    same_probe = root.place.probe == place.probe
    if root.field == "raised" and root.section in ("trace", "outputs", "generation"):
        return 0 if same_probe else None
    if root.section == "trace":
        return 0 if same_probe else 8 if place.kind in _UNTRACED and root.place.component else None
    if root.section in ("outputs", "generation"):
        if root.field == "non_finite":
            return 2 if same_probe else None
        if same_probe and root.place.kind in _FOLLOWS.get(place.kind, ()):
            return 1
        if same_probe and root.place.kind == place.kind and root.index < other.index:
            return 2  # another field of the same answer
        return _ELSEWHERE if root.cause is other.cause and root.index < other.index else None
    if not root.changes_results:
        return None
    if root.is_for_generation_alone:
        return 3 if other.section == "generation" and place.kind != "rng_state" else None
    if place.kind in _UNTRACED:
        return 4 + _EVERYWHERE.get(root.cause, 1)
    # What a trace sees is equal in this probe: only what works around the modules is left.
    around = root.cause in _EVERYWHERE or root.field == "loss_function" or root.place.module == ""
    return 4 + _EVERYWHERE.get(root.cause, 0) if around else None


def explains_non_finite(root: Node, other: Node) -> int | None:
    """What explains an output that is not finite: the files, the weights, or other state."""
    if root.section == "files":
        return 0
    if root.cause is Cause.NON_FINITE_WEIGHT:
        return 1
    if root.changes_results and not root.is_for_generation_alone:
        return 3
    earlier = root.section == "outputs" and root.field == "non_finite" and root.index < other.index
    return _ELSEWHERE if earlier else None


def explains_gradient(root: Node, other: Node) -> int | None:
    """What explains a gradient: freezing and hooks at the parameter, then forwards that differ, then state."""
    if root.field == "raised" and root.section == "gradients":
        return 0 if other.field in _ABSENT else None  # other passes went through
    if root.section == "parameters" and (root.cause is Cause.TRAINABLE_FLAG or root.field in ("hooks", "extra")):
        return 0 if root.place.component == other.place.component else None
    if root.cause is Cause.ADAPTER:
        return 1
    if root.section == "trace":
        return 2
    if root.section == "outputs":
        return 3 if root.place.kind in ("logits", "loss_by_count") or root.field == "non_finite" else None
    if root.changes_results and not root.is_for_generation_alone:
        return 4 if root.place.component == other.place.component else 5
    if root.section == "gradients" and root.field not in _ABSENT and root.index < other.index:
        return 6  # a gradient flows on from where it first differs
    return None


def explains_failure(root: Node, other: Node) -> int | None:
    """What explains an error: the same line met earlier, or a module that is gone."""
    if root.field == "raised":
        is_same = root.finding.actual is not None and root.finding.actual == other.finding.actual
        return 0 if is_same and root.index < other.index else None
    if other.finding.actual == NOT_ASKED:
        return 1 if root.section == "modules" and root.cause is Cause.HOOK else None
    if other.section == "round_trip" and root.section == "round_trip" and root.place.part == "written":
        return 1  # what was written cannot be loaded
    if other.section == "round_trip" and root.is_for_generation_alone:
        return 3  # transformers refuses to save settings that contradict each other
    if root.section == "modules" and root.cause in _BREAKS_CALLS and root.field != "compiled":
        return 1
    if root.section == "modules" and root.field == "cycle":
        return 1  # torch goes down the modules without end
    if root.section == "globals" and root.place.name in _BREAKS_ANY_CODE:
        return 1
    if root.section == "outputs" and root.field == "non_finite" and root.place.probe == other.place.probe:
        return 1  # sampling from what is not finite raises
    return 2 if root.cause is Cause.ADAPTER and other.section == "round_trip" else None
