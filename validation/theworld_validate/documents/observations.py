"""A fingerprint's shape: layers of observations, all JSON scalars.

In: nothing. Out: `Fingerprint`, and the order in which its layers are compared.
"""

from dataclasses import dataclass, field
from typing import Any

ALGORITHM = "xxh3-128/16384"  # of digests: XXH3 over chunks of so many bytes, see `fingerprint.chunks`
# One observation: field -> JSON scalar. One layer: location -> observation, in order.
Observation = dict[str, Any]
Layer = dict[str, Observation]

STATE_LAYERS = ("config", "modules", "parameters", "buffers", "globals")
PROBE_LAYERS = ("trace", "outputs", "generation")  # locations start with the probe's name
LAYERS = (*STATE_LAYERS, *PROBE_LAYERS, "gradients", "round_trip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Everything observed about one model.

    Args:
        layers: layer name -> its observations.
        num_bytes: bytes of the tensors that were digested, layer by layer.
    """

    layers: dict[str, Layer]
    num_bytes: dict[str, int] = field(default_factory=dict)

    def merge(self, other: "Fingerprint") -> "Fingerprint":
        """Put the layers of two fingerprints of one model together."""
        return Fingerprint(layers={**self.layers, **other.layers}, num_bytes={**self.num_bytes, **other.num_bytes})

    def subset(self, layer: str, prefix: str = "") -> Layer:
        """The observations of a layer whose location starts with `prefix`."""
        return {key: seen for key, seen in self.layers.get(layer, {}).items() if key.startswith(prefix)}


def num_tensors(layer: Layer) -> int:
    """How many observations of a layer are tensors."""
    return sum("digest" in seen for seen in layer.values())
