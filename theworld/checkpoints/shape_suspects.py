"""Which field of config.json is to blame where tensors have another shape than the model's.

In: names of tensors, which of their dimensions differ. Out: the field that all the differing dimensions share, and that
no equal dimension has; None where nothing fits.
"""

import re
from collections.abc import Iterable

_HEADS, _GROUPS, _HEAD_DIM = "num_attention_heads", "num_key_value_heads", "head_dim"
# For each tensor, the fields that decide its dimensions: Gemma 3's decoder, SigLIP's tower, the branch's layers.
_DIMENSIONS: tuple[tuple[str, str, tuple[tuple[str, ...], ...]], ...] = (
    (r"language_model.*embed_tokens\.weight|lm_head\.weight", "text_config", (("vocab_size",), ("hidden_size",))),
    (r"language_model.*q_proj\.weight", "text_config", ((_HEADS, _HEAD_DIM), ("hidden_size",))),
    (r"language_model.*[kv]_proj\.weight", "text_config", ((_GROUPS, _HEAD_DIM), ("hidden_size",))),
    (r"language_model.*o_proj\.weight", "text_config", (("hidden_size",), (_HEADS, _HEAD_DIM))),
    (r"language_model.*[qk]_norm\.weight", "text_config", ((_HEAD_DIM,),)),
    (r"language_model.*(gate|up)_proj\.weight", "text_config", (("intermediate_size",), ("hidden_size",))),
    (r"language_model.*down_proj\.weight", "text_config", (("hidden_size",), ("intermediate_size",))),
    (r"language_model.*norm\.weight", "text_config", (("hidden_size",),)),
    (
        r"patch_embedding\.weight",
        "vision_config",
        (("hidden_size",), ("num_channels",), ("patch_size",), ("patch_size",)),
    ),
    (r"vision_tower.*position_embedding\.weight", "vision_config", (("image_size", "patch_size"), ("hidden_size",))),
    (r"vision_tower.*fc1\.weight", "vision_config", (("intermediate_size",), ("hidden_size",))),
    (r"vision_tower.*fc2\.weight", "vision_config", (("hidden_size",), ("intermediate_size",))),
    (r"vision_tower.*(proj|out_proj)\.weight", "vision_config", (("hidden_size",), ("hidden_size",))),
    (r"temporal_embedding.*weight", "world_config", (("max_world_steps",), ())),
)  # fmt: skip


def suspect_field(shapes: Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> str | None:
    """Find the field, from (model's key, shape in the files, the model's shape) of every tensor that both have."""
    differing: dict[str, int] = {}
    equal: dict[str, int] = {}
    for name, file_shape, model_shape in shapes:
        if len(file_shape) != len(model_shape):
            continue
        for pattern, section, dimensions in _DIMENSIONS:
            if len(dimensions) == len(model_shape) and re.search(pattern, name):
                for names, ours, theirs in zip(dimensions, file_shape, model_shape, strict=True):
                    counts = equal if ours == theirs else differing
                    for field in names:
                        counts[f"{section}.{field}"] = counts.get(f"{section}.{field}", 0) + 1
                break
    certain = {field: count for field, count in differing.items() if field not in equal}
    return max(certain, key=lambda field: (certain[field], field)) if certain else None
