"""What a location says: which probe, which module, which call, and what is looked at there.

In: a section's name and a location as fingerprints write it. Out: a `Place`, the one home of what locations mean.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from theworld_validate.documents.observations import PROBE_SECTIONS

WHOLE_MODEL = "(model)"  # how the section "modules" and traces name the root
WRAPPER = "(wrapper)"  # where the section "modules" says what lies around the model
CODE = "(code) "  # how it says what stands for a name of the library's
_CALL = re.compile(r"(?P<module>[^#(\[]*)(?:\((?P<port>[^)]*)\))?(?:#(?P<call>\d+))?")
_ANSWER = re.compile(r"[A-Za-z_]+")
_PARTS = ("config", "parameters", "buffers", "written", "base")  # of a round trip
# Steps in a path that a wrapper put there: PEFT, torch.compile, DataParallel and FSDP.
_WRAPPER_STEPS = {"base_layer", "original_module", "_orig_mod", "module", "_fsdp_wrapped_module"}
_ANSWER_KINDS = {  # what an answer of a model is evidence of
    "logits": "logits",
    "loss": "logits",
    "loss_by_count": "loss_by_count",
    "row": "row",
    "embeds": "embeds",
    "arguments": "arguments",
    "untraced": "untraced",
    "decoded_logits": "decoded",
    "cache": "cache",
    "cross_cache": "cache",
    "cache_type": "cache",
    "output_type": "output_type",
    "greedy": "greedy",
    "greedy_logits": "greedy",
    "sampled": "sampled",
    "beams": "beams",
    "beams_scores": "beams",
    "static": "static",
    "static_logits": "static",
    "rng_state_cpu": "rng_state",
    "rng_state_cuda": "rng_state",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was observed.

    Args:
        part: of a round trip ("parameters", "written", "base"), or of the configurations ("generation_config").
        probe: None where the section is not of probes.
        module: the dotted path of the module; "" for the whole model and for what belongs to none.
        name: the tensor, field, key or answer itself.
        port: what of a module's call: "attention_mask", or the word it was called with; None for its output.
        call: 1 for a module's first call in a probe.
        kind: of an answer: "logits", "cache", "static" and so on; of what is no parameter's among the gradients, which
            it is; "" elsewhere.
    """

    part: str = ""
    probe: str | None = None
    module: str = ""
    name: str = ""
    port: str | None = None
    call: int = 1
    kind: str = ""

    @property
    def component(self) -> str:
        """The large part of a model that the module is in: its first two names, less numbers."""
        return component_of(self.module)

    @property
    def is_rotary(self) -> bool:
        """Whether it is about rotary angles."""
        return "rotary" in self.module or "inv_freq" in self.name


@lru_cache(maxsize=65536)
def place_of(section: str, location: str) -> Place:
    """Read a location of a section."""
    if section in PROBE_SECTIONS:
        probe, _, rest = location.partition("/")
        return _call(probe, rest) if section == "trace" else _answer(probe, rest)
    part = ""
    if section == "round_trip":
        part, _, location = location.partition("/")
        section = part if part in _PARTS else section
        if part == "base":
            section, _, location = location.partition("/")
    if section == "config":
        part = part or location.partition(".")[0]
        return Place(part=part, name=location.rpartition(".")[2])
    if section == "modules":
        if location == WRAPPER:
            return Place(part=part, name=WRAPPER, kind="wrapper")
        if location.startswith(CODE):
            return Place(part=part, name=location, kind="code")
        path = "" if location == WHOLE_MODEL else location
        return Place(part=part, module=path, name=path.rpartition(".")[2])
    if section in ("globals", "files"):
        return Place(part=part, name=location)
    module, _, name = location.rpartition(".")
    kind = f"{name.partition(')')[0]})" if section == "gradients" and name.startswith("(") else ""
    return Place(part=part, module=module, name=name, kind=kind)


def _call(probe: str, rest: str) -> Place:
    if rest.startswith(WHOLE_MODEL):
        return Place(probe=probe)
    found = _CALL.match(rest)
    assert found is not None
    module, port, call = found["module"], found["port"], int(found["call"] or 1)
    return Place(probe=probe, module=module, name=module.rpartition(".")[2], port=port, call=call)


def _answer(probe: str, rest: str) -> Place:
    word = _ANSWER.match(rest)
    name = word[0] if word else rest
    return Place(probe=probe, name=rest, kind=_ANSWER_KINDS.get(name, name))


def component_of(module: str) -> str:
    """The first two names of a path, less numbers: "model.vision_tower", "model.layers", "lm_head"."""
    return ".".join(name for name in module.split(".")[:2] if not name.isdigit())


def component_of_parameter(name: str) -> str:
    """The component of a parameter's module; a parameter of the model itself is one of its own."""
    return component_of(name.rpartition(".")[0]) or name


def group_of(section: str, location: str) -> str:
    """What of a section is reported together: differences of one kind in one group are one finding.

    Probes, answers of different kinds, large parts of the model and global flags can differ for different reasons.
    """
    place = place_of(section, location)
    if section in PROBE_SECTIONS:
        return f"{place.probe}/{place.kind}"
    if section == "config":
        return f"{place.part}/{'dtype' if place.name.endswith('dtype') else ''}"
    if section == "globals":
        return location
    if section == "buffers" and place.is_rotary:
        return f"{place.component}/rotary"
    if section == "round_trip":
        return f"{place.part}/{place.component}"
    if section == "written":
        return location.partition(".")[0]
    if section in ("modules", "parameters", "buffers", "gradients"):
        return place.kind or place.component
    return ""


def is_above(module: str, other: str) -> bool:
    """Whether the first module is the second, or holds it."""
    return module in ("", other) or other.startswith(f"{module}.")


def without_wrappers(location: str) -> str:
    """A location as it would be without the steps that wrappers put into paths."""
    names = location.split(".")
    return ".".join(name for name in names if name not in _WRAPPER_STEPS)
