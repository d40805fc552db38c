"""Ranges and relations of the Wan VAE's config fields, held before a VAE is built.

In: the config of a `diffusers.AutoencoderKLWan`. Out: the shape of what it makes, or a `ValueError` of one line with
the field. Wan 2.1 makes 16 channels of 8 x 8 pixels, Wan 2.2 makes 48 of 16 x 16; diffusers encodes 4 frames a step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from theworld.checkpoints.error_text import one_line
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

TEMPORAL_COMPRESSION = 4  # frames per latent step, after the first frame: `AutoencoderKLWan.encode` takes them so
DEFAULT_SPATIAL_COMPRESSION = 8  # of the Wan 2.1 VAE that Cosmos-Predict2 uses
_DEFAULT_CHANNELS = 16  # z_dim, where a config leaves it out
_COLOURS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentShape:
    """What a VAE makes of frames.

    Args:
        channels: of a latent cell: z_dim.
        spatial_compression: pixels a latent cell, each way.
    """

    channels: int
    spatial_compression: int


def latent_shape(values: Mapping[str, Any]) -> LatentShape:
    """The shape of the latents of a VAE whose config `check_vae_config` lets pass."""
    stages = values.get("dim_mult", _DEFAULTS["dim_mult"])
    return LatentShape(
        channels=values.get("z_dim", _DEFAULT_CHANNELS),
        spatial_compression=2 ** (len(stages) - 1) * (values.get("patch_size") or 1),
    )


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
    "z_dim": whole(1, 1024),
    "in_channels": whole(1, 3 * 16**2),
    "out_channels": whole(1, 3 * 16**2),
    "patch_size": whole(1, 16).or_null(),
    "scale_factor_temporal": fixed(TEMPORAL_COMPRESSION, str(TEMPORAL_COMPRESSION)).or_null(),
    "scale_factor_spatial": whole(1, 1024).or_null(),
}
_DEFAULTS = {"dim_mult": (1, 2, 4, 4), "temperal_downsample": (False, True, True)}


def check_vae_config(values: Mapping[str, Any], *, where: str, prefix: str = "") -> None:
    """Check the config of a Wan VAE.

    Args:
        where: the file or the config that it stands in, for the error.

    Raises:
        ValueError: for the first field that breaks a rule.
    """
    check_spelling(values, _FIELDS, where=where, prefix=prefix)
    check_table(values, _FIELDS, where=where, prefix=prefix)
    stages, steps = (values.get(name, default) for name, default in _DEFAULTS.items())
    if not 3 <= len(stages) <= 7:
        raise field_error(where, f"{prefix}dim_mult", stages, "a list of 3 to 7: each but the first halves the sides")
    if len(steps) != len(stages) - 1 or 2 ** sum(steps) != TEMPORAL_COMPRESSION:
        expected = f"a list of {len(stages) - 1}, two of them true: {TEMPORAL_COMPRESSION} frames a latent step"
        raise field_error(where, f"{prefix}temperal_downsample", steps, expected)
    shape = latent_shape(values)
    for name in ("latents_mean", "latents_std"):
        if name not in values and shape.channels != _DEFAULT_CHANNELS:
            raise ValueError(f"{one_line(where)}: {prefix}{name} is missing; write its {shape.channels} numbers")
        if name in values and len(values[name]) != shape.channels:
            raise field_error(where, prefix + name, values[name], f"a list of z_dim ({shape.channels}) numbers")
    patch = values.get("patch_size") or 1
    for name in ("in_channels", "out_channels"):
        if values.get(name, _COLOURS) != _COLOURS * patch**2:
            expected = f"{_COLOURS * patch**2}: {_COLOURS} colours of patch_size {patch} squared pixels"
            raise field_error(where, prefix + name, values.get(name, _COLOURS), expected)
    stated = values.get("scale_factor_spatial")
    if stated is not None and stated != shape.spatial_compression:
        expected = f"{shape.spatial_compression}, as dim_mult and patch_size make it"
        raise field_error(where, f"{prefix}scale_factor_spatial", stated, expected)
