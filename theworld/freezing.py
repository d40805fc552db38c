"""Which components train, and which are frozen.

In: a preset's name, a `FreezeConfig`, or the three boolean flags. Out: `requires_grad` set on every
parameter of a model, component by component.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from theworld.components import COMPONENT_NAMES, parameters_by_component

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeConfig:
    """The components that train; every other one is frozen.

    Args:
        trainable: names out of `theworld.components.COMPONENT_NAMES`.
    """

    trainable: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.trainable) - set(COMPONENT_NAMES))
        if unknown:
            raise ValueError(f"no component is named {', '.join(unknown)}; there are {', '.join(COMPONENT_NAMES)}")

    @classmethod
    def from_flags(cls, *, gemma_vision: bool, gemma_language: bool, cosmos_vae: bool) -> "FreezeConfig":
        """Build from the three shorthands, True for frozen; the world branch's own layers always train.

        The multi-modal projector goes with the vision tower. Of the VAE only what a gradient can
        reach is unfrozen: the decoder and post_quant_conv take no part in encoding.
        """
        trainable = ["world_projection", "temporal_embedding"]
        if not gemma_vision:
            trainable += ["vision_tower", "multi_modal_projector"]
        if not gemma_language:
            trainable += ["language_model"]
        if not cosmos_vae:
            trainable += ["vae_encoder", "vae_quant_conv"]
        return cls(trainable=tuple(name for name in COMPONENT_NAMES if name in trainable))


PRESETS = {
    "projection": FreezeConfig.from_flags(gemma_vision=True, gemma_language=True, cosmos_vae=True),
    "vision": FreezeConfig.from_flags(gemma_vision=False, gemma_language=True, cosmos_vae=True),
    "language": FreezeConfig.from_flags(gemma_vision=True, gemma_language=False, cosmos_vae=True),
    "full": FreezeConfig.from_flags(gemma_vision=False, gemma_language=False, cosmos_vae=False),
    # What the published figures describe: the projector and everything of the VAE but its encoder were
    # left trainable, and the model has no temporal embedding.
    "documented": FreezeConfig(
        trainable=(
            "multi_modal_projector",
            "vae_quant_conv",
            "vae_post_quant_conv",
            "vae_decoder",
            "world_projection",
        )
    ),
}


def has_temporal_embedding(freeze: FreezeConfig) -> bool:
    """Whether the model that a freeze configuration describes has a temporal embedding."""
    return freeze != PRESETS["documented"]


def resolve_freeze(
    freeze: FreezeConfig | str | Sequence[str] | None = None,
    *,
    freeze_gemma_vision: bool | None = None,
    freeze_gemma_language: bool | None = None,
    freeze_cosmos_vae: bool | None = None,
) -> FreezeConfig | None:
    """Turn what a caller gave into one configuration; None if nothing was given.

    Args:
        freeze: a configuration, a preset's name, or the names of the components that train.

    Raises:
        ValueError: for an unknown preset or component, a flag that is not a boolean, or both forms at once.
    """
    flags = {
        "freeze_gemma_vision": freeze_gemma_vision,
        "freeze_gemma_language": freeze_gemma_language,
        "freeze_cosmos_vae": freeze_cosmos_vae,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    if freeze is not None and given:
        raise ValueError(f"freeze= and {', '.join(given)} say the same thing twice; give one of the two forms")
    if given:
        return FreezeConfig.from_flags(
            gemma_vision=given.get("freeze_gemma_vision", True),
            gemma_language=given.get("freeze_gemma_language", True),
            cosmos_vae=given.get("freeze_cosmos_vae", True),
        )
    if freeze is None or isinstance(freeze, FreezeConfig):
        return freeze
    if isinstance(freeze, str):
        if freeze not in PRESETS:
            raise ValueError(f"no freeze preset is named {freeze!r}; there are {', '.join(PRESETS)}")
        return PRESETS[freeze]
    if not isinstance(freeze, (list, tuple)) or not all(isinstance(name, str) for name in freeze):
        raise ValueError(
            f"freeze must be a preset's name, a list of the components that train, or a FreezeConfig, got {freeze!r}"
        )
    return FreezeConfig(trainable=tuple(freeze))


def apply_freeze(model: "nn.Module", freeze: FreezeConfig) -> None:
    """Set `requires_grad` on every parameter of `model`; integers, as quantised weights are, take no gradient.

    Raises:
        ValueError: if the preset "documented" meets a model that has a temporal embedding.
    """
    components = parameters_by_component(model)
    if not has_temporal_embedding(freeze) and "temporal_embedding" in components:
        raise ValueError(
            "the preset 'documented' describes a model without a temporal embedding; "
            "load one with TheWorld.from_pretrained(..., freeze='documented')"
        )
    for name, parameters in components.items():
        for parameter in parameters.values():
            takes_gradient = parameter.is_floating_point() or parameter.is_complex()
            parameter.requires_grad_(name in freeze.trainable and takes_gradient)
