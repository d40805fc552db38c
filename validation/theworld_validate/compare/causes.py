"""From differences to a ranked cause: what, where, why, and how to mend it.

In: findings of one comparison, and what a second look measured of the weights that differ. Out: each finding's
cause and remedy, and the findings in order: the one that explains the others first. Only evidence is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Cause(StrEnum):
    """Kinds of cause, the most telling evidence first: of two findings, the earlier kind explains the later."""

    NON_DETERMINISM = "non-determinism"
    HOOK = "hook"
    METHOD_OVERRIDE = "method override"
    ATTENTION_IMPLEMENTATION = "attention implementation"
    LOST_TIE = "lost tie"
    CONFIG_VALUE = "config value"
    MODULE_CLASS = "module class"
    MODE_FLAG = "mode flag"
    MODULE_ATTRIBUTE = "module attribute"
    EXTRA_STATE = "extra state"
    MISSING_STATE = "missing state"
    BUFFER_REGISTRATION = "buffer registration"
    BUFFER_DTYPE = "buffer dtype"
    WEIGHT_DTYPE = "weight dtype"
    BUFFER_VALUE = "buffer value"
    REINITIALISED = "re-initialised module"
    WEIGHT_BITS = "weight bits"
    TRAINABLE_FLAG = "trainable flag"
    GLOBAL_FLAG = "global flag"
    RNG_USE = "random numbers drawn"
    MASK = "attention mask or token types"
    POSITIONS = "positions"
    CACHE = "KV cache"
    KERNEL_CHOICE = "kernel choice or code"
    GENERATION = "generation inputs"
    GRADIENT_PATH = "gradient path"
    SAVING = "saving or loading"
    UNKNOWN = "unknown"


_ADVICE: dict[Cause, tuple[str, str]] = {
    Cause.NON_DETERMINISM: (
        "the same model gives other results when it is run again: a kernel is not deterministic",
        "set torch.use_deterministic_algorithms(True), or compare on another device",
    ),
    Cause.HOOK: (
        "a hook was left behind (gradient checkpointing, accelerate and PEFT leave some)",
        "remove the hook's handle, or load the model afresh",
    ),
    Cause.METHOD_OVERRIDE: (
        "a method was put on the instance in place of its class's own",
        "delete the attribute from the instance; put behaviour into a subclass",
    ),
    Cause.ATTENTION_IMPLEMENTATION: (
        "another attention implementation was chosen for this part of the model",
        "pass attn_implementation to from_pretrained, for every sub-config",
    ),
    Cause.LOST_TIE: (
        "the tie between the embedding and the head was made or lost",
        "call tie_weights() after replacing either, and keep tie_word_embeddings",
    ),
    Cause.CONFIG_VALUE: (
        "the two configurations are not the same",
        "load both from one checkpoint and change no field",
    ),
    Cause.MODULE_CLASS: (
        "a module was replaced or wrapped by one of another class",
        "keep the base class's modules, and compile or wrap outside of the model",
    ),
    Cause.MODE_FLAG: (
        "the model, or a part of it, is in another mode than from_pretrained leaves it in",
        "call model.eval() before comparing or serving; switch checkpointing off",
    ),
    Cause.MODULE_ATTRIBUTE: (
        "a value that a module computes with was changed after it was built",
        "leave the attribute as the config makes it",
    ),
    Cause.EXTRA_STATE: (
        "a parameter or buffer was added while the world branch is off",
        "build added modules only where the branch is on",
    ),
    Cause.MISSING_STATE: (
        "the module that holds it is gone or renamed",
        "keep the base class's module names",
    ),
    Cause.BUFFER_REGISTRATION: (
        "the buffer was registered in another way: persistent or not, or as a parameter",
        "register it as the base class does, or saved files will differ",
    ),
    Cause.BUFFER_DTYPE: (
        "the model was cast after it was built: .to(dtype) and .bfloat16() also cast buffers that must keep theirs",
        "load with from_pretrained(dtype=...) and do not cast the model afterwards",
    ),
    Cause.WEIGHT_DTYPE: (
        "the parameter was loaded or cast to another dtype",
        "pass dtype= to from_pretrained, for sub-configs too, and do not cast afterwards",
    ),
    Cause.BUFFER_VALUE: (
        "the buffer was computed from other settings, or never computed after the model was made on the meta device",
        "let from_pretrained build the buffers; compare the rope and scaling fields of the two configs",
    ),
    Cause.REINITIALISED: (
        "nearly every element differs and the values look initialised: loading missed them, or init ran after it",
        "compare checkpoint keys with the module's names; call no init after loading",
    ),
    Cause.WEIGHT_BITS: (
        "the weight's bits are not the checkpoint's: changed after loading, or from another file",
        "load the checkpoint again with from_pretrained; look for code that writes to the weight",
    ),
    Cause.TRAINABLE_FLAG: (
        "a freeze setting was applied",
        "leave requires_grad as from_pretrained leaves it while the branch is off",
    ),
    Cause.GLOBAL_FLAG: (
        "loading the candidate changed torch's global state",
        "restore the flag after loading",
    ),
    Cause.RNG_USE: (
        "loading or running the candidate drew random numbers that the reference does not draw",
        "draw from a torch.Generator of your own",
    ),
    Cause.MASK: (
        "the attention mask is built from other inputs: attention_mask or token_type_ids are lost or changed",
        "pass both on as the processor made them, in forward and in prepare_inputs_for_generation",
    ),
    Cause.POSITIONS: (
        "position ids differ, and with them the rotary angles",
        "pass position_ids on, or leave them out as the base class does",
    ),
    Cause.CACHE: (
        "keys and values are kept in another way than the base class's cache",
        "build the cache from the model's config, with its sliding layers",
    ),
    Cause.KERNEL_CHOICE: (
        "inputs and state are equal up to here: another kernel ran, or other code",
        "compare flags, batch layout and library versions; look for a replaced function",
    ),
    Cause.GENERATION: (
        "the prompt's forward is equal, and generation's is not: inputs are prepared in another way",
        "look at prepare_inputs_for_generation and at what generate passes on",
    ),
    Cause.GRADIENT_PATH: (
        "the gradient goes another way: something is detached, scaled or hooked, or outputs differ before it",
        "look for detach(), no_grad and custom autograd functions",
    ),
    Cause.SAVING: (
        "the model does not come back as it was saved: a key is left out, renamed or cast on the way",
        "look at save_pretrained, ignored keys and the conversion of names",
    ),
    Cause.UNKNOWN: ("the evidence does not tell", "look at the first place that differs"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightEvidence:
    """What a second look at a differing parameter measured.

    Args:
        differing_share: of its elements, 0 to 1.
        candidate_std: standard deviation of the candidate's values.
        initializer_range: the standard deviation that the config initialises with.
    """

    differing_share: float
    candidate_std: float
    initializer_range: float

    @property
    def looks_initialised(self) -> bool:
        """Whether the values are constant, or spread as an initialisation spreads them."""
        spread = abs(self.candidate_std - self.initializer_range) < 0.2 * self.initializer_range
        return self.differing_share > 0.9 and (self.candidate_std == 0 or spread)


def classify(code: str, location: str, weight: WeightEvidence | None = None) -> Cause:
    """Name the kind of cause that one finding is evidence of."""
    layer, _, field = code.partition(".")
    by_field = {
        "modules": {
            "hooks": Cause.HOOK,
            "overrides": Cause.METHOD_OVERRIDE,
            "attn_implementation": Cause.ATTENTION_IMPLEMENTATION,
            "training": Cause.MODE_FLAG,
            "attribute.gradient_checkpointing": Cause.MODE_FLAG,
            "class": Cause.MODULE_CLASS,
            "missing": Cause.MODULE_CLASS,
            "extra": Cause.EXTRA_STATE,
        },
        "parameters": {
            "tied_to": Cause.LOST_TIE,
            "dtype": Cause.WEIGHT_DTYPE,
            "requires_grad": Cause.TRAINABLE_FLAG,
            "hooks": Cause.HOOK,
            "missing": Cause.MISSING_STATE,
            "extra": Cause.EXTRA_STATE,
            "digest": Cause.REINITIALISED if weight and weight.looks_initialised else Cause.WEIGHT_BITS,
        },
        "buffers": {
            "dtype": Cause.BUFFER_DTYPE,
            "digest": Cause.BUFFER_VALUE,
            "persistent": Cause.BUFFER_REGISTRATION,
            "missing": Cause.BUFFER_REGISTRATION,
            "extra": Cause.EXTRA_STATE,
        },
    }
    if layer == "modules" and field.startswith("attribute."):
        return by_field["modules"].get(field, Cause.MODULE_ATTRIBUTE)
    if layer in by_field:
        return by_field[layer].get(field, Cause.WEIGHT_BITS if layer == "parameters" else Cause.UNKNOWN)
    if layer == "config":
        return Cause.CONFIG_VALUE
    if layer == "globals":
        return Cause.RNG_USE if "rng_state" in location else Cause.GLOBAL_FLAG
    if layer == "trace":
        return _classify_trace(location)
    if layer == "outputs":
        return Cause.CACHE if "/cache[" in location else Cause.KERNEL_CHOICE
    if layer == "generation":
        return Cause.RNG_USE if "rng_state" in location else Cause.GENERATION
    return {"gradients": Cause.GRADIENT_PATH, "round_trip": Cause.SAVING}.get(layer, Cause.UNKNOWN)


def _classify_trace(location: str) -> Cause:
    """The first place where a trace differs, its state being equal, tells what entered there."""
    if "(attention_mask)" in location:
        return Cause.CACHE if location.startswith("cached_decode/") and "#" in location else Cause.MASK
    return Cause.POSITIONS if "rotary_emb" in location else Cause.KERNEL_CHOICE


def advise(cause: Cause) -> tuple[str, str]:
    """A kind of cause in words: (why, how to mend it)."""
    return _ADVICE[cause]


def rank(evidence: Iterable[tuple[str, str, WeightEvidence | None]]) -> list[tuple[Cause, str, str]]:
    """Order findings, given as (code, location, weight evidence): (cause, code, location), the likeliest root first.

    A config's `dtype` and what only follows from other findings stand behind those that explain them.
    """
    order = list(Cause)

    def key(entry: tuple[Cause, str, str]) -> tuple[int, int]:
        cause, code, location = entry
        follows = code == "config.value" and location.endswith("dtype")
        return (1 if follows else 0, order.index(cause))

    return sorted(((classify(code, place, weight), code, place) for code, place, weight in evidence), key=key)


def attribute(code: str, location: str, actual: Any = None, weight: WeightEvidence | None = None) -> tuple[str, str]:
    """Name the likely cause of one finding, and its remedy."""
    why, remedy = advise(classify(code, location, weight))
    if code == "buffers.dtype" and "inv_freq" in location:
        why = f"{why}; rotary frequencies in {actual} shift every position's angle"
    return why, remedy
