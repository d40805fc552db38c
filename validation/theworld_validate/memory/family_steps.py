"""A training step of a model of any family: one row of text, with an image where the forward takes one, and its loss.

In: a config and how large a batch is. Out: inputs by name, and a model frozen as a preset says. TheWorld's own cells,
which have a clip besides, are in `cells`; nothing here knows of a `Cell`.
"""

# B batch

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from theworld.checkpoints.error_text import did_you_mean, summary
from theworld_validate.compare.places import component_of_parameter
from theworld_validate.fingerprint.gradients import loss_of
from theworld_validate.probes.general import General
from theworld_validate.probes.general_fields import most_positions
from theworld_validate.probes.probe import Probe
from theworld_validate.probes.registry import family_of
from theworld_validate.results import InputError

FULL, NONE = "full", "none"  # presets that every family has; the others are the parts of its module tree


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyBatch:
    """One batch of equal rows.

    Args:
        row: (1, L) ids and whatever belongs to them; floating-point inputs are given in bfloat16.
        num_rows: B.
    """

    row: Probe
    num_rows: int

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Arguments of the forward of one row, labels among them; no mask, since nothing is padded.

        A mask of ones is dropped where its values can be seen, which without data they cannot.
        """
        labels = {} if self.row.labels is None else {"labels": self.row.labels}
        return {**{name: array for name, array in self.row.inputs.items() if name != "attention_mask"}, **labels}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each input of the whole batch: rows, images or patches follow each other along the first axis."""
        return {name: (len(array) * self.num_rows, *array.shape[1:]) for name, array in self.arrays.items()}

    @property
    def num_bytes(self) -> int:
        """Bytes of the batch: int64 and bfloat16."""
        floats = {name for name, array in self.arrays.items() if np.issubdtype(array.dtype, np.floating)}
        return sum(math.prod(shape) * (2 if name in floats else 8) for name, shape in self.shapes.items())

    def make(self, *, device: Any, make: Callable[..., Any] | None = None) -> dict[str, Any]:
        """The batch as tensors; of `make`'s, from a shape and a dtype, where values are not wanted."""
        import torch

        made = {}
        for name, array in self.arrays.items():
            tensor = torch.from_numpy(array)
            dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
            if make is not None:
                made[name] = make(self.shapes[name], dtype)
            else:
                made[name] = tensor.to(dtype).repeat(self.num_rows, *[1] * (tensor.ndim - 1)).to(device)
        return made


def class_of(config: Any) -> Any:
    """The class of transformers that a config is of."""
    import transformers

    return getattr(transformers, config.architectures[0])


def batch_of(config: Any, *, text_tokens: int, num_rows: int) -> FamilyBatch:
    """A batch of rows of so many tokens of text; an encoder and a decoder have as many each.

    Raises:
        InputError: if the model takes no text, has no positions for so much, or no image can be built for it.
    """
    model_class = class_of(config)
    family = family_of(config.model_type)(config, model_class)
    if not isinstance(family, General) or "input_ids" not in family.takes:
        raise InputError(f"memory is counted over tokens of text, and {model_class.__name__} takes none")
    try:
        row = family.row(text_tokens)
    except InputError:
        raise
    except Exception as error:  # whatever a class says of inputs that are not its own
        what = f"{type(error).__name__}: {summary(error)}"
        raise InputError(f"{model_class.__name__}: no image can be built: {what}") from error
    most = most_positions(config)
    if most is not None and row.num_tokens > most:
        raise InputError(
            f"the prompt has {row.num_tokens:,} tokens, and the model has positions for {most:,}; ask for less"
        )
    return FamilyBatch(row=row, num_rows=num_rows)


def build_without_data(config: Any, *, dtype: str = "bfloat16") -> tuple[Any, Any]:
    """Build a model whose tensors have no data but claim to be on the CPU.

    Returns:
        The `FakeTensorMode` that its tensors belong to, and the model.

    Raises:
        InputError: if no model can be built from the config.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers.initialization import no_init_weights

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(getattr(torch, dtype))
        with mode, no_init_weights():
            model = class_of(config)(config)
    except Exception as error:  # whatever a class says of a config that describes none
        what = f"{type(error).__name__}: {summary(error)}"
        raise InputError(f"config.json describes no model that can be built: {what}") from error
    finally:
        torch.set_default_dtype(before)
    model.tie_weights()
    return mode, model


def freeze_family(model: Any, *, preset: str) -> None:
    """Freeze, and leave checkpointing off.

    Args:
        preset: "full", "none", or a part of the module tree, as `params` counts them: that alone is trained.

    Raises:
        InputError: for a preset that this model does not have.
    """
    parts = {name: component_of_parameter(name) for name, _ in model.named_parameters()}
    known = (FULL, NONE, *dict.fromkeys(parts.values()))
    if preset not in known:
        hint = did_you_mean(preset, known, otherwise=f"; there are {', '.join(known)}")
        raise InputError(f"--preset {preset}: {type(model).__name__} has no such preset{hint}")
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():  # what is in 4 bit cannot train
            parameter.requires_grad_(preset == FULL or parts[name] == preset)
    # With checkpointing transformers has the embeddings' outputs require a gradient, and without it leaves that so.
    model.disable_input_require_grads()
    if model.supports_gradient_checkpointing:
        with _without_warnings_of_names():
            model.gradient_checkpointing_disable()


def enable_checkpointing(model: Any) -> None:
    """Recompute activations, layer by layer.

    Raises:
        InputError: if the model cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise InputError(f"--checkpointing: {type(model).__name__} has no gradient checkpointing; give off")
    with _without_warnings_of_names():
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


@contextmanager
def _without_warnings_of_names() -> Iterator[None]:
    with warnings.catch_warnings():
        # They have newer names, which the oldest supported release lacks.
        warnings.simplefilter("ignore", FutureWarning)
        yield


def family_loss(model: Any, inputs: dict[str, Any]) -> Any:
    """The loss of a forward: its own, or where it takes no labels the mean square of what it gives."""
    wrapped = getattr(model, "module", model)  # by DDP, whose own signature says nothing
    takes_cache = "use_cache" in inspect.signature(wrapped.forward).parameters
    output = model(**inputs, **({"use_cache": False} if takes_cache else {}))
    return loss_of(output, has_labels="labels" in inputs)
