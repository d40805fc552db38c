"""What a fault needs of a model, and what a model has of it, told by what was observed of the reference.

In: the reference's sections and probes. Out: the needs that it meets. A fault whose needs are not met is not
applicable: it is listed with the reason, and is never counted as caught.
"""

from collections.abc import Collection
from enum import StrEnum

from theworld_validate.documents.observations import Fingerprint
from theworld_validate.faults.places import first_norm
from theworld_validate.parity.round_trip import compare_round_trips


class Need(StrEnum):
    """What a fault may need; the value says it in a sentence."""

    GEMMA3 = "it is about modules and files that Gemma 3 has, and this is another family"
    TRAINER = "it is about TheWorld's own trainer"
    ATTENTION = "the model does not attend by sdpa here"
    GENERATION = "the model generates nothing"
    CHECKPOINTING = "the model has no gradient checkpointing"
    EMBEDDINGS = "the forward takes no inputs_embeds"
    IMAGES = "no prompt of this family has images"
    DECODER = "the model is no encoder and decoder"
    COMES_BACK = "the reference itself does not come back as it was saved"
    NORM = "the model has no norm with a weight"


def met_by(reference: Fingerprint, probes: Collection[str]) -> frozenset[Need]:
    """The needs that a model of another family than Gemma 3 meets.

    Args:
        reference: what was observed of it.
        probes: their names.
    """
    sections = reference.sections
    sides = {part for name in sections.get("parameters", {}) for part in name.split(".")}
    modules = sections.get("modules", {})
    has = {
        Need.ATTENTION: any(seen.get("attn_implementation") == "sdpa" for seen in modules.values()),
        Need.GENERATION: bool(sections.get("generation")),
        Need.CHECKPOINTING: any("attribute.gradient_checkpointing" in seen for seen in modules.values()),
        Need.EMBEDDINGS: any("/embeds/" in name for name in sections.get("outputs", {})),
        Need.IMAGES: "image" in probes,
        Need.DECODER: {"encoder", "decoder"} <= sides,
        Need.COMES_BACK: "round_trip" in sections and compare_round_trips(reference, reference)[2] is None,
        Need.NORM: bool(first_norm(sections.get("parameters", {}))),
    }
    return frozenset(need for need, is_met in has.items() if is_met)
