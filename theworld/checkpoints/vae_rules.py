"""Ranges and relations of the Wan VAE's config fields, held before a VAE is built.

In: the config of a `diffusers.AutoencoderKLWan`. Out: nothing, or a `ValueError` of one line with the field. The world
branch counts on 16 channels, 8 pixels a latent cell each way and 4 frames a latent step.
"""

from collections.abc import Mapping
from typing import Any

from theworld.checkpoints.error_text import shown_name
from theworld.checkpoints.field_rules import (
    Rule,
    Table,
    check_spelling,
    check_table,
    field_error,
    fixed,
    flag,
    is_finite,
    number,
    whole,
)

LATENT_CHANNELS = 16  # z_dim of the Wan 2.1 VAE that Cosmos-Predict2 uses
SPATIAL_COMPRESSION = 8  # pixels per latent cell, each way
TEMPORAL_COMPRESSION = 4  # frames per latent step, after the first frame


def num_latent_steps(num_frames: Any) -> Any:
    """Latent steps that 1 + 4k frames become; 0 of none. A whole number, or a tensor of them."""
    return (num_frames + TEMPORAL_COMPRESSION - 1) // TEMPORAL_COMPRESSION


_MAX_BASE_DIM = 4096


def _list_of(holds: Any, expected: str) -> Rule:
    return Rule(holds=lambda value: isinstance(value, (list, tuple)) and all(map(holds, value)), expected=expected)


_FIELDS: Table = {
    "base_dim": whole(1, _MAX_BASE_DIM),
    "decoder_base_dim": whole(1, _MAX_BASE_DIM).or_null(),
    "dim_mult": _list_of(lambda item: type(item) is int and 1 <= item <= 64, "a list of whole numbers from 1 to 64"),
    "num_res_blocks": whole(1, 64),
    "attn_scales": _list_of(lambda item: is_finite(item) and 0 < item <= 64, "a list of positive numbers"),
    "temperal_downsample": _list_of(lambda item: type(item) is bool, "a list of true and false"),
    "dropout": number(0, 0.999),
    "latents_mean": _list_of(lambda item: is_finite(item) and abs(item) <= 1e6, "a list of finite numbers"),
    "latents_std": _list_of(lambda item: is_finite(item) and 0 < item <= 1e6, "a list of finite numbers above 0"),
    "is_residual": flag(),
    "in_channels": fixed(3, "3"),
    "out_channels": fixed(3, "3"),
    "patch_size": whole(1, 1).or_null(),
    "scale_factor_temporal": fixed(TEMPORAL_COMPRESSION, str(TEMPORAL_COMPRESSION)).or_null(),
    "scale_factor_spatial": fixed(SPATIAL_COMPRESSION, str(SPATIAL_COMPRESSION)).or_null(),
}
_DEFAULTS = {"dim_mult": (1, 2, 4, 4), "temperal_downsample": (False, True, True)}


def check_vae_config(values: Mapping[str, Any], *, where: str, prefix: str = "") -> None:
    """Check the config of a Wan VAE.

    Args:
        where: the file or the config that it stands in, for the error.

    Raises:
        ValueError: for the first field that breaks a rule.
    """
    z_dim = values.get("z_dim", LATENT_CHANNELS)
    if type(z_dim) is not int or z_dim != LATENT_CHANNELS:
        raise ValueError(
            f"{where}: {prefix}z_dim is {shown_name(repr(z_dim))}, and TheWorld's projection takes "
            f"{LATENT_CHANNELS} channels; use a Cosmos-Predict2 (Wan 2.1) VAE"
        )
    check_spelling(values, (*_FIELDS, "z_dim"), where=where, prefix=prefix)
    check_table(values, _FIELDS, where=where, prefix=prefix)
    for name in ("latents_mean", "latents_std"):
        if name in values and len(values[name]) != z_dim:
            raise field_error(where, prefix + name, values[name], f"a list of z_dim ({z_dim}) numbers")
    stages, steps = (values.get(name, default) for name, default in _DEFAULTS.items())
    if 2 ** (len(stages) - 1) != SPATIAL_COMPRESSION:
        expected = f"a list of 4: the world branch has {SPATIAL_COMPRESSION} pixels a latent cell"
        raise field_error(where, f"{prefix}dim_mult", stages, expected)
    if len(steps) != len(stages) - 1 or 2 ** sum(steps) != TEMPORAL_COMPRESSION:
        expected = f"a list of {len(stages) - 1}, two of them true: {TEMPORAL_COMPRESSION} frames a latent step"
        raise field_error(where, f"{prefix}temperal_downsample", steps, expected)
