"""What buffers must hold: recomputed in float64 from the configuration.

In: a loaded model's configs. Out: buffer name -> its value, and what rounding it may have been given. The formulas
are those of the papers, not a second call of the code under audit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Rotary types with a closed formula here; the others depend on the sequence or on more parameters.
_ROPE_TYPES = ("default", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedBuffer:
    """One buffer's value.

    Args:
        value: float64, or int64 for indices.
        max_ulps: the largest distance allowed, in units in the last place of float32; 0 for exact.
        roundings: dtypes that the value may have been rounded to, besides its own.
        formula: in words, with its source.
    """

    value: "torch.Tensor"
    max_ulps: int
    roundings: tuple[str, ...] = ()
    formula: str


def expect_buffers(model: Any) -> dict[str, ExpectedBuffer]:
    """Recompute every buffer that has a formula.

    Args:
        model: a Gemma 3, or a `TheWorld`; only its configs are read. Of another family none is known here.
    """
    import torch

    if model.config.model_type not in ("gemma3", "theworld"):
        return {}
    expected = {}
    text, vision = model.config.text_config, model.config.vision_config
    for layer_type, rope in _rope_of_layer_types(text).items():
        if rope.get("rope_type", "default") not in _ROPE_TYPES or "rope_theta" not in rope:
            continue
        frequencies = _inverse_frequencies(text.head_dim, **_rope_arguments(rope))
        for name in (f"{layer_type}_inv_freq", f"{layer_type}_original_inv_freq"):
            expected[f"model.language_model.rotary_emb.{name}"] = ExpectedBuffer(
                value=frequencies,
                # Each of power, reciprocal and scaling rounds once in float32.
                max_ulps=3,
                formula="theta^(-2i/d) / factor (Su et al. 2021, eq. 15; linear scaling: Chen et al. 2023)",
            )
    expected["model.language_model.embed_tokens.embed_scale"] = ExpectedBuffer(
        value=torch.tensor(text.hidden_size, dtype=torch.float64).sqrt(),
        max_ulps=1,
        roundings=("bfloat16", "float16"),
        formula="sqrt(hidden_size), as Gemma rounds it: to the dtype of the embedding",
    )
    expected["model.vision_tower.embeddings.position_ids"] = ExpectedBuffer(
        value=torch.arange((vision.image_size // vision.patch_size) ** 2)[None],
        max_ulps=0,
        formula="0, 1, ... number of patches - 1",
    )
    return expected


def _rope_of_layer_types(text_config: Any) -> dict[str, dict[str, Any]]:
    """The rotary parameters of each layer type."""
    parameters = text_config.rope_parameters
    return {name: values for name, values in parameters.items() if isinstance(values, dict)}


def _rope_arguments(rope: dict[str, Any]) -> dict[str, float]:
    factor = rope.get("factor", 1.0) if rope.get("rope_type", "default") == "linear" else 1.0
    return {
        "theta": float(rope["rope_theta"]),
        "factor": float(factor),
        "rotary_share": float(rope.get("partial_rotary_factor", 1.0)),
    }


def _inverse_frequencies(head_dim: int, *, theta: float, factor: float, rotary_share: float) -> "torch.Tensor":
    import torch

    rotary_dim = int(head_dim * rotary_share)
    exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim
    return theta**-exponents / factor


def distance_in_ulps(actual: "torch.Tensor", expected: ExpectedBuffer) -> int | None:
    """The largest distance of a buffer from its formula, in units in the last place of float32.

    Returns:
        None if the shapes differ, or the buffer holds a NaN or infinity.
    """
    import torch

    from theworld_validate.compare.numeric import measure_difference

    if tuple(actual.shape) != tuple(expected.value.shape):
        return None
    actual = actual.detach().cpu()
    if not expected.value.is_floating_point():
        return int((actual.long() - expected.value).abs().max())
    if not bool(torch.isfinite(actual).all()):
        return None
    candidates = [expected.value.float()]
    candidates += [expected.value.to(getattr(torch, name)).float() for name in expected.roundings]
    return min(measure_difference(value, actual.float()).max_ulp or 0 for value in candidates)
