"""What an optimizer asks for: states with its first step, temporaries with each; and the real one, to be measured.

In: the parameters that learn. Out: requests in their order; or an optimizer of torch's or bitsandbytes'.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from theworld_validate.results import InputError

ADAMW, ADAMW_8BIT = "adamw", "adamw-8bit"
_BLOCK = 256  # elements of an 8-bit state that share one float32 scale
_LEAST_8BIT = 4096  # elements; a smaller tensor keeps float32 states
_CODE_BYTES = 4 * 256  # a table of the 256 values, one for each of the two states, shared by all parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """One parameter that has a gradient.

    Args:
        elements: of it; of its shard where it is sharded.
        item_bytes: of one element.
        is_embedding: whether `Trainer` has bitsandbytes keep its states in 32 bit.
    """

    elements: int
    item_bytes: int
    is_embedding: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One tensor that an optimizer asks for."""

    name: str
    num_bytes: int


def states_of(learning: Sequence[Learning], optimizer: str) -> Iterator[Request]:
    """Every state, in the order in which the first step makes them; they stay.

    bitsandbytes 0.50, `Optimizer2State.init_state`: the two tables of values come with the first parameter that has
    8-bit states, then for each parameter two states and, in 8 bit, two scales for every 256 elements.
    """
    if optimizer == ADAMW:
        for one in learning:
            for name in ("exp_avg", "exp_avg_sq"):
                yield Request(name=name, num_bytes=one.elements * one.item_bytes)
        return
    has_tables = False
    for one in learning:
        if one.elements < _LEAST_8BIT or one.is_embedding:
            for name in ("state1", "state2"):
                yield Request(name=name, num_bytes=4 * one.elements)
            continue
        if not has_tables:
            has_tables = True
            yield from (Request(name=name, num_bytes=_CODE_BYTES) for name in ("qmap1", "qmap2"))
        yield from (Request(name=name, num_bytes=one.elements) for name in ("state1", "state2"))
        scales = 4 * -(-one.elements // _BLOCK)
        yield from (Request(name=name, num_bytes=scales) for name in ("absmax1", "absmax2"))


def temporaries_of(learning: Sequence[Learning], optimizer: str) -> Iterator[list[Request]]:
    """What each step takes for a while: lists one after the other, of what is there together.

    torch.optim.adam._multi_tensor_adam takes the square roots of all second moments of a dtype at once; bitsandbytes
    works in place.
    """
    if optimizer == ADAMW:
        for item_bytes in dict.fromkeys(one.item_bytes for one in learning):
            alike = [one for one in learning if one.item_bytes == item_bytes]
            yield [Request(name="sqrt", num_bytes=one.elements * item_bytes) for one in alike]


def find_embeddings(model: Any) -> set[int]:
    """Ids of the parameters whose states `Trainer` has bitsandbytes keep in 32 bit."""
    from torch import nn

    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}


def require_bitsandbytes(option: str) -> None:
    """Raise an `InputError` that names an option, if the library that it is measured with is not there."""
    try:
        importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise InputError(
            f"{option} is measured with bitsandbytes, which is not installed; pip install bitsandbytes"
        ) from error


def make_optimizer(model: Any, optimizer: str, *, learning_rate: float) -> Any:
    """An optimizer of all that trains, as `Trainer` sets it."""
    import torch

    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:  # as with the preset "none" of a family; an optimizer of nothing is refused
        return torch.optim.AdamW([torch.zeros(1)], lr=learning_rate)
    if optimizer == ADAMW:
        return torch.optim.AdamW(trainable, lr=learning_rate)
    from torch import nn

    bitsandbytes = importlib.import_module("bitsandbytes")
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    manager.initialize()  # it remembers parameters of earlier cells, by an address that may be another's by now
    made = bitsandbytes.optim.AdamW8bit(trainable, lr=learning_rate)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    return made
