"""The round trip: what is left of a model after save_pretrained and from_pretrained.

In: a loaded model. Out: the layer "round_trip": config, parameters and buffers of the model loaded again, by
locations "config/...", "parameters/..." and "buffers/...". The files are gone when it returns.
"""

import tempfile
from typing import Any

from theworld_validate.documents.observations import Fingerprint, Layer
from theworld_validate.fingerprint.state import fingerprint_state

_LAYERS = ("config", "parameters", "buffers")


def fingerprint_round_trip(model: Any) -> Fingerprint:
    """Save the model, load it with its own class, and observe its state."""
    import torch

    with tempfile.TemporaryDirectory(prefix="theworld-round-trip-") as folder:
        model.save_pretrained(folder)
        arguments = {"device_map": {"": str(model.device)}} if model.device.type != "cpu" else {}
        torch.manual_seed(0)
        loaded = type(model).from_pretrained(folder, dtype=model.dtype, **arguments, **_off_switch(model))
    state = fingerprint_state(loaded)
    layer: Layer = {f"{name}/{location}": seen for name in _LAYERS for location, seen in state.layers[name].items()}
    return Fingerprint(
        layers={"round_trip": layer},
        num_bytes={"round_trip": state.num_bytes["parameters"] + state.num_bytes["buffers"]},
    )


def _off_switch(model: Any) -> dict[str, Any]:
    from theworld.modeling_theworld import TheWorld

    return {"enable_world": False} if isinstance(model, TheWorld) and not model.enable_world else {}
