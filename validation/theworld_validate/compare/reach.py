"""Which finding can explain which: one function a section, read from cause to effect.

In: two nodes. Out: how near the first is as an explanation of the second, 0 the nearest; None if it explains nothing
of it. The rules are about how Gemma and its kin are built: config, then modules, then tensors, then what they compute.
"""

from collections.abc import Callable

from theworld_validate.compare.causes import Cause
from theworld_validate.compare.nodes import Node
from theworld_validate.compare.places import Place, is_above
from theworld_validate.compare.reach_results import (
    explains_answer,
    explains_call,
    explains_failure,
    explains_gradient,
    explains_non_finite,
)
from theworld_validate.compare.reach_saving import explains_saved

_ELSEWHERE = 9  # the same change in another part of the model, reported earlier
# Words of config fields that decide how many modules and tensors there are, and of what shape.
_STRUCTURE = {"num", "size", "dim", "layers", "heads", "vocab", "rank"}
# What a config field decides, where the attribute or buffer has another name.
_DECIDES = {
    "layer_types": {"sliding_window", "is_sliding", "layer_type", "attention_type"},
    "query_pre_attn_scalar": {"scaling"},
    "head_dim": {"scaling", "attention_scaling", "in_features", "out_features"},
    "hidden_size": {"embed_scale", "scalar_embed_scale", "in_features", "out_features", "embedding_dim", "embed_dim"},
    "intermediate_size": {"in_features", "out_features"},
    "vocab_size": {"num_embeddings", "out_features"},
    "hidden_activation": {"act_fn"},
    "num_key_value_heads": {"num_key_value_groups", "out_features"},
    "num_attention_heads": {"num_key_value_groups", "num_heads", "in_features", "out_features"},
}
_ROPE_WORDS = {"rope", "rotary", "factor", "theta", "scaling", "type", "head", "position"}


def reach(root: Node, other: Node) -> int | None:
    """How near `root` is as an explanation of `other`; None if it is none."""
    if root.index == other.index or root.finding.key == other.finding.key:
        return None
    if other.field == "raised":
        return explains_failure(root, other)
    if other.section == "outputs" and other.field == "non_finite":
        return explains_non_finite(root, other)
    rule = _RULES.get(other.section)
    return rule(root, other) if rule is not None else None


def _explains_file(root: Node, other: Node) -> int | None:
    if root.section != "files" or root.cause is Cause.RAISED:
        return None
    if root.field == other.field:  # of lost keys a later one may be nearer to the cause: see `same_tail`
        return _ELSEWHERE if root.index < other.index or root.field == "missing" else None
    # The keys of the file are another spelling of those that are missing.
    return 1 if (root.field, other.field) == ("unexpected", "missing") and same_tail(root, other) else None


def same_tail(root: Node, other: Node) -> bool:
    """Whether two keys end alike: a wrapper or a conversion put other words before the end."""
    keys = [node.place.name.split(".") for node in (root, other)]
    tails = [[*(name for name in key if name.isdigit()), *key[-2:]] for key in keys]
    return tails[0] == tails[1]


def _explains_config(root: Node, other: Node) -> int | None:
    if other.place.name.endswith("dtype"):
        if root.section == "parameters" and root.cause is Cause.WEIGHT_DTYPE:
            return 0
        if root.section == "buffers" and root.cause is Cause.BUFFER_DTYPE:
            return 1
    if other.field in ("missing", "extra", "value") and replaces_modules(root) and not _is_generation(other):
        return 2 if other.field != "value" else 3
    if root.section != "config" or root.index > other.index:
        return None
    if root.place.part == other.place.part:  # fields of one config that come and go with each other
        return 4 if {root.field, other.field} != {"value"} and not other.place.name.endswith("dtype") else None
    return 4 if root.names & other.names else None


def _is_generation(node: Node) -> bool:
    return node.place.part == "generation_config"


def replaces_modules(node: Node) -> bool:
    """Whether a module that holds others was replaced: what is below it has other names, or is gone."""
    if node.section != "modules" or node.cause is not Cause.MODULE_CLASS:
        return False
    if node.field == "transformers_class":
        return True
    return all(place.module.count(".") == 0 for place in node.places[:1]) and bool(node.place.module)


def _explains_module(root: Node, other: Node) -> int | None:
    if root.section == "config" and not _is_generation(root) and _config_decides(root, other):
        return 1
    if root.section == "parameters" and root.cause is Cause.DEVICE and other.cause is Cause.HOOK:
        return 1  # accelerate moves what lies elsewhere with hooks
    if root.section != "modules" or other.field == "transformers_class":
        return None
    if root.cause is Cause.HOOK and other.cause is Cause.METHOD_OVERRIDE and _shares_module(root, other):
        return 0  # accelerate's hooks replace forward
    if root.cause in (Cause.MODULE_CLASS, Cause.ADAPTER):  # what replaces a module has its own attributes and mode
        if root.field == "transformers_class":
            return 2
        if _holds(root, other) and root.field == "class":
            return 1
        if replaces_modules(root) and not other.place.module:
            return 3
    if root.field == other.field == "class" and root.cause is other.cause and root.index < other.index:
        return _ELSEWHERE
    if root.cause is Cause.ADAPTER and other.cause is Cause.ADAPTER:
        return 4 if _comes_before(root, other) else None
    if root.field == "missing" and other.field == "extra":
        return 5  # renamed: what is gone comes back under another name
    return _elsewhere(root, other)


def _comes_before(root: Node, other: Node) -> bool:
    """Of an adapter's traces the replaced class comes first, then by position."""
    return (root.field != "class", root.index) < (other.field != "class", other.index)


def _config_decides(root: Node, other: Node) -> bool:
    if other.field in ("missing", "extra", "class"):
        return root.field == "value" and any(_words(name) & _STRUCTURE for name in root.names)
    if other.field == "attn_implementation":
        return any("attn_implementation" in name for name in root.names)
    if not other.field.startswith("attribute."):
        return False
    attribute = other.field.removeprefix("attribute.")
    return any(name == attribute or attribute in _DECIDES.get(name, ()) for name in _field_names(root))


def _field_names(root: Node) -> set[str]:
    return root.names | set(root.finding.location.split("."))


def _words(name: str) -> set[str]:
    return set(name.split("_"))


def _shares_module(root: Node, other: Node) -> bool:
    return bool({place.module for place in root.places} & {place.module for place in other.places})


def _holds(root: Node, other: Node) -> bool:
    """Whether the first place of `other` is in a module that `root` is about."""
    module = other.place.module
    return any(place.module and is_above(place.module, module) for place in root.places) or (
        not root.knows_all_places and _has_same_form(root.place, other.place)
    )


def _has_same_form(one: Place, other: Place) -> bool:
    """Whether two modules are of one kind: their paths are equal but for numbers, or one is below the other."""
    paths = [[name for name in place.module.split(".") if not name.isdigit()] for place in (one, other)]
    return bool(paths[0]) and paths[0] == paths[1][: len(paths[0])]


def _elsewhere(root: Node, other: Node) -> int | None:
    """The same change of the same field, or of a field's like, in another part of the model."""
    same = root.section == other.section and root.field == other.field and root.index < other.index
    if same and root.field == "hooks" and root.section == "modules" and not root.place.module:
        return _ELSEWHERE  # accelerate puts hooks on all modules at once
    if not same or root.field in ("missing", "extra", "digest", "hooks", "overrides"):
        return None
    values = [(node.finding.expected, node.finding.actual) for node in (root, other)]
    return _ELSEWHERE if values[0] == values[1] else None


def _explains_parameter(root: Node, other: Node) -> int | None:
    if root.section == "files":
        return _file_explains_tensor(root, other)
    if root.section == "config" and not _is_generation(root):
        ties = other.field == "tied_to" and any("tie_" in name for name in root.names)
        structure = other.field in ("missing", "extra", "shape") and _config_decides_shape(root)
        return 0 if ties else 1 if structure else None
    if root.section == "buffers":
        became_a_parameter = root.field == "missing" and other.field == "extra"
        if became_a_parameter and root.finding.location == other.finding.location:
            return 0
        # A cast of the whole model also reaches the buffers that must keep their dtype.
        is_cast = root.cause is Cause.BUFFER_DTYPE and other.field == "dtype" and root.place.is_rotary
        return 1 if is_cast and root.finding.actual == other.finding.actual else None
    if root.section == "modules":
        if root.field == "transformers_class":
            return 4 if other.field in ("missing", "extra", "tied_to") else None
        if other.field in ("missing", "extra") and root.field in ("missing", "extra", "class"):
            return 0 if _holds(root, other) else 3 if _is_about_the_same_part(root, other) else None
        if root.field == "class" and other.field in ("dtype", "shape", "digest", "device") and _holds(root, other):
            return 1 if other.field != "digest" or root.cause is Cause.MODULE_CLASS else None
        if root.cause is Cause.ADAPTER and other.field == "requires_grad":
            return 2
        return None
    if root.section == "parameters" and root.cause is Cause.LOST_TIE and other.field in ("missing", "extra"):
        return 2 if _is_table(other.place) else None
    if root.cause is Cause.ADAPTER and other.cause in (Cause.ADAPTER, Cause.TRAINABLE_FLAG):
        return 4 if root.index < other.index or other.cause is Cause.TRAINABLE_FLAG else None
    if root.field == "missing" and other.field == "extra" and root.section == other.section:
        return 6 if root.place.component == other.place.component else None
    return _elsewhere(root, other)


def _config_decides_shape(root: Node) -> bool:
    return any(_words(name) & _STRUCTURE for name in root.names)


def _is_about_the_same_part(root: Node, other: Node) -> bool:
    return root.cause is other.cause is Cause.ADAPTER or (
        root.field == other.field and not root.knows_all_places and root.place.component == other.place.component
    )


def _is_table(place: Place) -> bool:
    return any(word in place.module for word in ("head", "embed"))


def _file_explains_tensor(root: Node, other: Node) -> int | None:
    """A problem of a key explains the tensor of that name; a shadowed file may explain any."""
    if other.field not in ("digest", "dtype", "shape", "tied_to", "missing"):
        return None
    if root.cause is Cause.SHADOWED_FILE:
        return 3
    key, name = root.place.name, other.finding.location
    return 0 if key == name or key.split(".")[-3:] == name.split(".")[-3:] else None


def _explains_buffer(root: Node, other: Node) -> int | None:
    if root.section == "config" and not _is_generation(root):
        return 1 if _config_decides_buffer(root, other) else None
    if root.section == "modules":
        if root.field == "transformers_class":
            return 4
        gone = root.field in ("missing", "extra", "class") and other.field in ("missing", "extra", "shape", "dtype")
        return 0 if gone and _holds(root, other) else None
    if root.section == "parameters" and root.cause is Cause.WEIGHT_DTYPE and other.field == "dtype":
        return 1 if root.finding.actual == other.finding.actual and not other.place.is_rotary else None
    if root.section == "files":
        return _file_explains_tensor(root, other)
    return _elsewhere(root, other)


def _config_decides_buffer(root: Node, other: Node) -> bool:
    if other.field not in ("digest", "shape", "missing", "extra"):
        return False
    names = _field_names(root)
    if other.place.is_rotary:
        return any(_words(name) & _ROPE_WORDS for name in names)
    return any(other.place.name in _DECIDES.get(name, ()) for name in names) or (
        other.field == "shape" and _config_decides_shape(root)
    )


_INITIALISING = {
    Cause.LOST_KEY: 0,
    Cause.EXTRA_KEY: 1,
    Cause.REINITIALISED: 1,
    Cause.ADAPTER: 1,
    Cause.EXTRA_STATE: 2,
    Cause.MODULE_CLASS: 2,
    Cause.MISSING_STATE: 3,
    Cause.LOST_TIE: 3,
    Cause.BUFFER_DTYPE: 4,  # built by its constructor, which initialises, and cast
    Cause.WEIGHT_SHAPE: 3,
}


def _explains_global(root: Node, other: Node) -> int | None:
    if other.cause is Cause.RNG_USE:
        if root.section == "globals":
            return _ELSEWHERE if root.cause is Cause.RNG_USE and root.index < other.index else None
        if root.section == "config" and not _is_generation(root):
            return 2 if _config_decides_shape(root) else None
        return _INITIALISING.get(root.cause) if root.is_state else None
    if root.section == "globals" and root.field == other.field and root.field in ("missing", "extra"):
        return _ELSEWHERE if root.cause is not Cause.RNG_USE and root.index < other.index else None
    if (root.place.name, other.place.name) == ("default_device", "function_modes"):
        return 0 if "DeviceContext" in str(other.finding.actual) else None  # it is a mode
    precise = all("tf32" in node.place.name or "precision" in node.place.name for node in (root, other))
    return 1 if root.section == "globals" and precise and root.index < other.index else None


_RULES: dict[str, Callable[[Node, Node], int | None]] = {
    "files": _explains_file,
    "config": _explains_config,
    "modules": _explains_module,
    "parameters": _explains_parameter,
    "buffers": _explains_buffer,
    "globals": _explains_global,
    "trace": explains_call,
    "outputs": explains_answer,
    "generation": explains_answer,
    "gradients": explains_gradient,
    "round_trip": explains_saved,
}
