"""What was observed of one model: sections of observations, all JSON scalars.

In: nothing. Out: `Fingerprint`, its `Failure`s, and the order in which its sections are compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from theworld_validate.documents.choices import Choice
from theworld_validate.documents.sketches import Sketch
from theworld_validate.results import Plan, Scalar

ALGORITHM = "xxh3-128/16384"  # of digests: XXH3 over chunks of so many bytes, see `fingerprint.chunks`
# One observation: field -> JSON scalar. One section: location -> observation, in order.
Observation = dict[str, Scalar]
Section = dict[str, Observation]

STATE_SECTIONS = ("config", "modules", "parameters", "buffers", "globals")
SAVED_SECTIONS = ("config", "parameters", "buffers")  # what a saved model must come back with
LOADED_SECTIONS = ("config", "modules", "parameters", "buffers")  # what every load of a model must give again
PROBE_SECTIONS = ("trace", "outputs", "generation")  # locations start with the probe's name and a slash
# Among the gradients: what a location ends in that is of the text alone, and those of what is no parameter.
OF_TEXT, LOSS, INPUTS_EMBEDS = "(text)", "(loss)", "(inputs_embeds)"
NOT_ASKED = "(not asked)"  # the place of a failure where no code fails
SECTIONS = ("files", *STATE_SECTIONS, *PROBE_SECTIONS, "gradients", "round_trip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that was to be observed, and raised.

    Args:
        section: where the observation is missing.
        probe: which question it was; None where the section is not of probes.
        error: the exception's type and message.
        place: the file and line that raised; `NOT_ASKED` where the question cannot be put to this model.
        code: that line's source; None where it is not known.
        library: that raised, where no line of the model's own was running.
        called: the class that refused an argument, with its forward's signature; None for any other error.
        function: the library's function that was called; None where no library raised.
    """

    section: str
    probe: str | None = None
    error: str
    place: str
    code: str | None = None
    library: str | None = None
    called: str | None = None
    function: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Everything observed about one model, or a part of that.

    Args:
        sections: section name -> its observations.
        num_bytes: bytes of the tensors that were digested, section by section.
        failures: what is missing because it raised.
        sketches: digest -> sketch of the tensor that has it; only where it was asked for.
        choices: location of a step's logits -> what each row of the batch chose by them; beside sketches only.
    """

    sections: dict[str, Section]
    num_bytes: dict[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    sketches: dict[str, Sketch] = field(default_factory=dict)
    choices: dict[str, tuple[Choice, ...]] = field(default_factory=dict)

    def merge(self, other: "Fingerprint") -> "Fingerprint":
        """Put two parts of what was observed of one model together; their bytes add up."""
        names = {**self.sections, **other.sections}
        sizes = {**self.num_bytes, **other.num_bytes}
        return Fingerprint(
            sections={name: {**self.sections.get(name, {}), **other.sections.get(name, {})} for name in names},
            num_bytes={name: self.num_bytes.get(name, 0) + other.num_bytes.get(name, 0) for name in sizes},
            failures=(*self.failures, *other.failures),
            sketches={**self.sketches, **other.sketches},
            choices={**self.choices, **other.choices},
        )

    def subset(self, section: str, prefix: str = "") -> Section:
        """The observations of a section whose location starts with `prefix`."""
        return {key: seen for key, seen in self.sections.get(section, {}).items() if key.startswith(prefix)}

    def failures_of(self, section: str, probe: str | None = None) -> tuple[Failure, ...]:
        """What raised in a section, and of a probe if one is named."""
        return tuple(f for f in self.failures if f.section == section and probe in (None, f.probe))


EMPTY = Fingerprint(sections={})


def probe_of(location: str) -> str:
    """The probe that a location of one of `PROBE_SECTIONS` belongs to."""
    return location.partition("/")[0]


def count_observations(fingerprint: Fingerprint) -> dict[str, int]:
    """How many observations each section has."""
    return {name: len(section) for name, section in fingerprint.sections.items()}


def num_tensors(section: Mapping[str, Observation]) -> int:
    """How many observations of a section are tensors."""
    return sum("digest" in seen for seen in section.values())


def parameter_gradients(section: Section) -> Section:
    """The gradients of parameters, of the section "gradients": less the losses, and that of given embeddings."""
    return {place: seen for place, seen in section.items() if not place.startswith((LOSS, INPUTS_EMBEDS))}


def whole_plan(probes: tuple[str, ...]) -> Plan:
    """What a whole fingerprint must hold for these probes."""
    return Plan(sections=SECTIONS, probes=probes)
