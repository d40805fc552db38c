"""The one list of a model's components, and which parameters belong to which.

In: a model. Out: its parameters, each in exactly one component, tied weights once. Freezing,
counting and memory all read this list, so that no parameter is forgotten.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from theworld.published_names import INNER

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A named part: every parameter whose name in the inner model, or at the head, starts with one of `prefixes`."""

    name: str
    title: str
    prefixes: tuple[str, ...]


COMPONENTS = (
    Component(name="vision_tower", title="Gemma vision tower (SigLIP)", prefixes=("vision_tower.",)),
    Component(
        name="multi_modal_projector",
        title="Gemma multi-modal projector",
        prefixes=("multi_modal_projector.",),
    ),
    Component(
        name="language_model",
        title="Gemma language model, with its head",
        prefixes=("language_model.", "lm_head."),
    ),
    Component(name="vae_encoder", title="Cosmos VAE encoder", prefixes=("world_encoder.vae.encoder.",)),
    Component(name="vae_quant_conv", title="Cosmos VAE quant_conv", prefixes=("world_encoder.vae.quant_conv.",)),
    Component(
        name="vae_post_quant_conv",
        title="Cosmos VAE post_quant_conv",
        prefixes=("world_encoder.vae.post_quant_conv.",),
    ),
    Component(name="vae_decoder", title="Cosmos VAE decoder", prefixes=("world_encoder.vae.decoder.",)),
    Component(name="world_projection", title="World projection", prefixes=("world_projection.",)),
    Component(name="temporal_embedding", title="Temporal embedding", prefixes=("temporal_embedding.",)),
)
COMPONENT_NAMES = tuple(component.name for component in COMPONENTS)


def component_of(name: str) -> str:
    """The component that a parameter belongs to, by its name in the inner model or at the head.

    Raises:
        ValueError: if it belongs to none, or to more than one.
    """
    inner = name.removeprefix(INNER)
    owners = [component.name for component in COMPONENTS if inner.startswith(component.prefixes)]
    if len(owners) != 1:
        raise ValueError(
            f"parameter {name} belongs to {len(owners)} components ({', '.join(owners) or 'none'}), expected one; "
            "add its module to theworld/components.py"
        )
    return owners[0]


def parameters_by_component(model: "nn.Module") -> dict[str, dict[str, "nn.Parameter"]]:
    """Sort a model's parameters into components: component name -> parameter name -> parameter.

    A tied parameter appears once, under its first name. Components that the model lacks are absent.

    Raises:
        ValueError: if a parameter belongs to no component, or to more than one.
    """
    sorted_parameters: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        sorted_parameters.setdefault(component_of(name), {})[name] = parameter
    return {name: sorted_parameters[name] for name in COMPONENT_NAMES if name in sorted_parameters}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentCount:
    """Parameters of one component, in elements and in bytes; tied weights counted once."""

    name: str
    total: int
    trainable: int
    total_bytes: int


def count_parameters(model: "nn.Module") -> tuple[ComponentCount, ...]:
    """Count each component's parameters.

    Raises:
        ValueError: if the components' sum is not the model's total, or a parameter has no component.
    """
    counts = tuple(
        ComponentCount(
            name=name,
            total=sum(p.numel() for p in parameters.values()),
            trainable=sum(p.numel() for p in parameters.values() if p.requires_grad),
            total_bytes=sum(p.numel() * p.element_size() for p in parameters.values()),
        )
        for name, parameters in parameters_by_component(model).items()
    )
    total = sum({id(p): p.numel() for p in model.parameters()}.values())
    if sum(count.total for count in counts) != total:
        raise ValueError(f"components sum to {sum(c.total for c in counts):,} parameters, the model has {total:,}")
    return counts
