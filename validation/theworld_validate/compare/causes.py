"""Kinds of cause, and which kind one finding is evidence of.

In: one finding, and what a second look measured of the weight it is about. Out: its kind of cause. A kind's words are
in `advice`; which finding explains which is in `explain`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from theworld_validate.compare.places import Place, place_of
from theworld_validate.documents.observations import INPUTS_EMBEDS, LOSS
from theworld_validate.results import Finding


class Cause(StrEnum):
    """Kinds of cause, the most telling evidence first: of several roots, the earlier kind is named first."""

    NON_DETERMINISM = "non-determinism"
    LOADS_DIFFER = "loads that differ"
    LOST_KEY = "lost key"
    SHADOWED_FILE = "shadowed file"
    CHECKPOINT_FILES = "checkpoint files"
    EXTRA_KEY = "extra key"
    HOOK = "hook"
    METHOD_OVERRIDE = "method override"
    ATTENTION_IMPLEMENTATION = "attention implementation"
    LOST_TIE = "lost tie"
    CONFIG_VALUE = "config value"
    ADAPTER = "adapter"
    WRAPPER = "wrapper"
    COMPILED = "compiled"
    MODULE_CLASS = "module class"
    MODE_FLAG = "mode flag"
    MODULE_ATTRIBUTE = "module attribute"
    EXTRA_STATE = "extra state"
    MISSING_STATE = "missing state"
    BUFFER_REGISTRATION = "buffer registration"
    BUFFER_DTYPE = "buffer dtype"
    WEIGHT_DTYPE = "weight dtype"
    WEIGHT_SHAPE = "weight shape"
    BUFFER_VALUE = "buffer value"
    NON_FINITE_WEIGHT = "weight not finite"
    NO_BITS = "values that cannot be read"
    WEIGHT_CLASS = "weight class"
    MEMORY_LAYOUT = "memory layout"
    CHANGED_BY_RUNNING = "changed by running"
    REINITIALISED = "re-initialised module"
    WEIGHT_BITS = "weight bits"
    TRAINABLE_FLAG = "trainable flag"
    LEFTOVER_GRADIENT = "leftover gradient"
    GLOBAL_HOOK = "global hook"
    GLOBAL_FLAG = "global flag"
    DEVICE = "device"
    RNG_USE = "random numbers drawn"
    MASK = "attention mask or token types"
    POSITIONS = "positions"
    CACHE = "KV cache"
    NON_FINITE = "outputs not finite"
    KERNEL_CHOICE = "kernel choice or code"
    RAISED = "raised"
    ENDED = "process ended"
    LOSS_COUNT = "loss count"
    PADDED_ROWS = "padded rows"
    EMBEDDED_INPUTS = "embedded inputs"
    OUTPUT_CLASS = "class of the output"
    FORWARD_ARGUMENTS = "arguments of the forward"
    UNTRACED = "another way without hooks"
    GENERATION = "generation inputs"
    STATIC_CACHE = "static cache"
    BEAMS = "beam search"
    TRAINING_LOSS = "loss in training mode"
    GRADIENT_PATH = "gradient path"
    WRITTEN_KEYS = "keys of the saved files"
    WRITTEN_DTYPE = "dtype of the saved files"
    SAVING = "saving or loading"
    PATCHED_CODE = "patched code"
    LEARNING_RATE = "learning rate"
    FREEZE = "freeze not kept"
    RESUMED_WEIGHTS = "weights not resumed"
    RESUMED_STATE = "optimizer not resumed"
    REDUCTION = "dtype of the reduction"
    UNKNOWN = "unknown"


_BY_FIELD: dict[tuple[str, str], Cause] = {
    ("modules", "hooks"): Cause.HOOK,
    ("modules", "overrides"): Cause.METHOD_OVERRIDE,
    ("modules", "attn_implementation"): Cause.ATTENTION_IMPLEMENTATION,
    ("modules", "training"): Cause.MODE_FLAG,
    ("modules", "attribute.gradient_checkpointing"): Cause.MODE_FLAG,
    ("modules", "loss_function"): Cause.METHOD_OVERRIDE,
    ("modules", "class"): Cause.MODULE_CLASS,
    ("modules", "transformers_class"): Cause.MODULE_CLASS,
    ("modules", "compiled"): Cause.COMPILED,
    ("modules", "cycle"): Cause.EXTRA_STATE,
    ("modules", "missing"): Cause.MISSING_STATE,
    ("modules", "extra"): Cause.EXTRA_STATE,
    ("parameters", "tied_to"): Cause.LOST_TIE,
    ("parameters", "dtype"): Cause.WEIGHT_DTYPE,
    ("parameters", "shape"): Cause.WEIGHT_SHAPE,
    ("parameters", "requires_grad"): Cause.TRAINABLE_FLAG,
    ("parameters", "hooks"): Cause.HOOK,
    ("parameters", "missing"): Cause.MISSING_STATE,
    ("parameters", "extra"): Cause.EXTRA_STATE,
    ("parameters", "digest"): Cause.WEIGHT_BITS,
    ("parameters", "device"): Cause.DEVICE,
    ("parameters", "grad"): Cause.LEFTOVER_GRADIENT,
    ("parameters", "subclass"): Cause.WEIGHT_CLASS,
    ("parameters", "unreadable"): Cause.NO_BITS,
    ("parameters", "stride"): Cause.MEMORY_LAYOUT,
    ("parameters", "same_memory_as"): Cause.MEMORY_LAYOUT,
    ("modules", "unregistered"): Cause.EXTRA_STATE,
    ("buffers", "dtype"): Cause.BUFFER_DTYPE,
    ("buffers", "shape"): Cause.BUFFER_VALUE,
    ("buffers", "digest"): Cause.BUFFER_VALUE,
    ("buffers", "persistent"): Cause.BUFFER_REGISTRATION,
    ("buffers", "missing"): Cause.BUFFER_REGISTRATION,
    ("buffers", "extra"): Cause.EXTRA_STATE,
    ("buffers", "device"): Cause.DEVICE,
    ("files", "missing"): Cause.LOST_KEY,
    ("files", "unexpected"): Cause.EXTRA_KEY,
    ("files", "extra"): Cause.EXTRA_KEY,
    ("files", "unread"): Cause.EXTRA_KEY,
    ("files", "shadowed"): Cause.SHADOWED_FILE,
}
_IN_ANY_SECTION = {
    "raised": Cause.RAISED,
    "ended": Cause.ENDED,
    "after_run": Cause.CHANGED_BY_RUNNING,
    "loads_differ": Cause.LOADS_DIFFER,
}
_BY_ANSWER: dict[str, Cause] = {
    "logits": Cause.KERNEL_CHOICE,
    "decoded": Cause.CACHE,
    "cache": Cause.CACHE,
    "loss_by_count": Cause.LOSS_COUNT,
    "row": Cause.PADDED_ROWS,
    "embeds": Cause.EMBEDDED_INPUTS,
    "output_type": Cause.OUTPUT_CLASS,
    "arguments": Cause.FORWARD_ARGUMENTS,
    "untraced": Cause.UNTRACED,
    "greedy": Cause.GENERATION,
    "sampled": Cause.GENERATION,
    "beams": Cause.BEAMS,
    "static": Cause.STATIC_CACHE,
    "rng_state": Cause.RNG_USE,
}
_BY_GRADIENT = {LOSS: Cause.TRAINING_LOSS, INPUTS_EMBEDS: Cause.EMBEDDED_INPUTS}
_BY_SECTION = {
    "files": Cause.CHECKPOINT_FILES,
    "config": Cause.CONFIG_VALUE,
    "gradients": Cause.GRADIENT_PATH,
    "outputs": Cause.KERNEL_CHOICE,
    "generation": Cause.GENERATION,
}
_NAMES = frozenset(Cause)
_ADAPTER_NAMES = ("lora_", "adapter", "modules_to_save", "lokr_", "loha_", "ia3_", "vera_", "prompt_encoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightEvidence:
    """What a second look at a differing parameter measured.

    Args:
        differing_share: of its elements, 0 to 1.
        candidate_std: standard deviation of the candidate's values; None or NaN where they are not all finite.
        initializer_range: the standard deviation that the config initialises with.
    """

    differing_share: float
    candidate_std: float | None
    initializer_range: float

    @property
    def is_finite(self) -> bool:
        """Whether all of the candidate's values are numbers."""
        return self.candidate_std is not None and math.isfinite(self.candidate_std)

    @property
    def looks_initialised(self) -> bool:
        """Whether the values are constant, or spread as an initialisation spreads them."""
        if self.candidate_std is None or self.differing_share <= 0.9:
            return False
        spread = abs(self.candidate_std - self.initializer_range) < 0.2 * self.initializer_range
        return self.candidate_std == 0 or spread


def classify(finding: Finding, weight: WeightEvidence | None = None) -> Cause:
    """Name the kind of cause of one finding: what `explain` has named, or what the finding by itself is evidence of."""
    kind = (finding.cause or "").partition(":")[0]
    return Cause(kind) if kind in _NAMES else _classify(finding, weight)


def _classify(finding: Finding, weight: WeightEvidence | None) -> Cause:
    section, field = section_of(finding), field_of(finding)
    place = place_of(section, finding.location)
    if field in _IN_ANY_SECTION:
        return _IN_ANY_SECTION[field]
    if field == "non_finite":
        return Cause.CHECKPOINT_FILES if section == "files" else Cause.NON_FINITE
    if place.kind in ("wrapper", "code"):
        return _classify_around(finding, place)
    if section in ("modules", "parameters", "buffers") and is_adapter(finding, place):
        return Cause.ADAPTER
    if (section, field) == ("parameters", "digest") and weight is not None:
        if not weight.is_finite:
            return Cause.NON_FINITE_WEIGHT
        return Cause.REINITIALISED if weight.looks_initialised else Cause.WEIGHT_BITS
    if (section, field) in _BY_FIELD:
        return _BY_FIELD[section, field]
    if section == "modules" and field.startswith("attribute."):
        return Cause.MODULE_ATTRIBUTE
    if section == "globals":
        return _classify_global(place)
    if section == "trace":
        return _classify_call(place)
    if section in ("outputs", "generation"):
        return _BY_ANSWER.get(place.kind, _BY_SECTION[section])
    if section == "round_trip":
        return _classify_saved(place, field)
    return _BY_GRADIENT.get(place.kind) or _BY_SECTION.get(section, Cause.UNKNOWN)


def _classify_around(finding: Finding, place: Place) -> Cause:
    if place.kind == "code":
        return Cause.PATCHED_CODE
    around = f"{finding.expected} {finding.actual}".lower()
    return Cause.ADAPTER if "peft" in around else Cause.COMPILED if "optimizedmodule" in around else Cause.WRAPPER


def is_adapter(finding: Finding, place: Place) -> bool:
    """Whether a difference in state is what an adapter library adds."""
    field = field_of(finding)
    if field == "class":
        return str(finding.actual).startswith("peft.")
    added = f"{place.module}.{place.name}"
    return field == "extra" and any(word in added for word in _ADAPTER_NAMES)


def _classify_global(place: Place) -> Cause:
    if place.name.startswith("rng_state"):
        return Cause.RNG_USE
    return Cause.GLOBAL_HOOK if place.name.endswith("_hooks") else Cause.GLOBAL_FLAG


def _classify_call(place: Place) -> Cause:
    """The first place where a trace differs, its state being equal, tells what entered there."""
    if place.port == "attention_mask":
        return Cause.CACHE if place.call > 1 else Cause.MASK  # a later call is a decoding step
    return Cause.POSITIONS if place.is_rotary else Cause.KERNEL_CHOICE


def _classify_saved(place: Place, field: str) -> Cause:
    if place.part != "written":
        return Cause.SAVING
    return Cause.WRITTEN_DTYPE if field == "dtype" else Cause.WRITTEN_KEYS


def section_of(finding: Finding) -> str:
    """The section that a finding is of."""
    return finding.section or finding.code.partition(".")[0]


def field_of(finding: Finding) -> str:
    """The field that differs; what a check's own code says where it names none."""
    return finding.field or finding.code.partition(".")[2]
