"""The inputs of a cell: shapes, bytes, and one batch.

In: a cell and a config. Out: the same batch for measurement and prediction; an error where its prompt is too long.
"""

# B batch, L prompt length, S image side in pixels

import math
from collections.abc import Callable
from typing import Any

from theworld_validate.memory import family_steps
from theworld_validate.memory.cells import STEPS, Cell

_FIRST_ORDINARY_ID = 10


def check_length(cell: Cell, config: Any) -> None:
    """Raise a ValueError if a cell's tokens are more than the model's positions, or its steps than it has room for."""
    if not cell.is_the_worlds:
        family_steps.batch_of(config, text_tokens=cell.text_tokens, num_rows=cell.batch)
        return
    most = config.world_config.max_world_steps
    if cell.num_world_steps > most:
        raise ValueError(
            f"the clip and what follows it are {cell.num_world_steps:,} latent steps, and max_world_steps is {most:,}; "
            "ask for fewer"
        )
    length, most = prompt_length(cell, config), config.text_config.max_position_embeddings
    what = f"the prompt has {length:,} tokens"
    if cell.task not in STEPS:
        length, what = length + cell.new_tokens, f"{what} and {cell.new_tokens:,} are to come"
    if length > most:
        raise ValueError(f"{what}, and the model has positions for {most:,}; ask for less")


def prompt_length(cell: Cell, config: Any) -> int:
    """Tokens of one row: beginning of text, text, an image with its two marks, a clip with its two."""
    world_tokens = cell.world_tokens * cell.num_world_steps
    return 1 + cell.text_tokens + config.mm_tokens_per_image + 2 + world_tokens + 2


def count_labels(cell: Cell) -> int:
    """Labels that count, of all rows: those of text and of the four marks, as in training; no placeholder is one."""
    return cell.batch * (cell.text_tokens + 4)


def input_shapes(cell: Cell, config: Any) -> dict[str, tuple[int, ...]]:
    """Shape of each input of one batch; the last two are floats, and labels are a step's alone."""
    side, length = config.vision_config.image_size, prompt_length(cell, config)
    frame_size = cell.grid_side * config.world_config.spatial_compression
    tokens = ("input_ids", "attention_mask", "token_type_ids", *(("labels",) if cell.task in STEPS else ()))
    return {
        **dict.fromkeys(tokens, (cell.batch, length)),
        "pixel_values": (cell.batch, 3, side, side),
        "world_frames": (cell.batch, 3, cell.frames, frame_size, frame_size),
    }


def input_bytes(cell: Cell, config: Any) -> int:
    """Bytes of one batch: int64 and float32."""
    if not cell.is_the_worlds:
        return family_steps.batch_of(config, text_tokens=cell.text_tokens, num_rows=cell.batch).num_bytes
    return sum(
        math.prod(shape) * (4 if name in ("pixel_values", "world_frames") else 8)
        for name, shape in input_shapes(cell, config).items()
    )


def make_inputs(cell: Cell, config: Any, *, device: Any, make: Callable[..., Any] | None = None) -> dict[str, Any]:
    """One batch: input_ids, attention_mask, token_type_ids (B, L) int64; pixel_values; world_frames; of a step, labels.

    Args:
        config: a `TheWorldConfig` with a world branch; of another family, its inputs are the family's own.
        device: where the tensors go.
        make: makes a tensor of zeros from a shape and a dtype, for tensors without data; real values if None.
    """
    import torch

    from theworld.levers.chunked_loss import IGNORED_LABEL

    if not cell.is_the_worlds:
        batch = family_steps.batch_of(config, text_tokens=cell.text_tokens, num_rows=cell.batch)
        return batch.make(device=device, make=make)
    world, shapes = config.world_config, input_shapes(cell, config)
    if make is not None:
        dtypes = {name: torch.float32 if name in ("pixel_values", "world_frames") else torch.int64 for name in shapes}
        return {name: make(shape, dtypes[name]) for name, shape in shapes.items()}
    random = torch.Generator().manual_seed(0)
    text = torch.randint(_FIRST_ORDINARY_ID, config.boi_token_index, (cell.text_tokens,), generator=random).tolist()
    num_tokens = cell.world_tokens * cell.num_world_steps
    image = [config.boi_token_index, *[config.image_token_index] * config.mm_tokens_per_image, config.eoi_token_index]
    clip = [world.start_of_world_token_id, *[world.world_token_id] * num_tokens, world.end_of_world_token_id]
    row = torch.tensor([config.text_config.bos_token_id, *image, *clip, *text])
    ids = row.repeat(cell.batch, 1)
    is_placeholder = (ids == config.image_token_index) | (ids == world.world_token_id)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (ids == config.image_token_index).long(),
        **({"labels": ids.masked_fill(is_placeholder, IGNORED_LABEL)} if cell.task in STEPS else {}),
        "pixel_values": torch.rand(shapes["pixel_values"], generator=random) * 2 - 1,
        "world_frames": torch.rand(shapes["world_frames"], generator=random) * 2 - 1,
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}
