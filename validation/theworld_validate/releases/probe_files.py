"""Probes as a file, so that every release is asked exactly the same, whatever it makes of the config.

In: probes. Out: one `.npz` file, and the same probes from it. Nothing in it is a pickle.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from theworld_validate.probes.probe import Probe

_PLAIN = ("name", "use_cache", "gradients", "decode_steps")
_DESCRIBED = "probes"
_LISTS = ("images_per_row", "extras", "generation")


def write_probes(probes: Sequence[Probe], path: Path) -> None:
    """Write probes to a file."""
    arrays: dict[str, np.ndarray] = {}
    described: list[dict[str, Any]] = []
    for i, probe in enumerate(probes):
        arrays |= {f"{i}/inputs/{name}": value for name, value in probe.inputs.items()}
        if probe.labels is not None:
            arrays[f"{i}/labels"] = probe.labels
        described.append({name: getattr(probe, name) for name in (*_PLAIN, *_LISTS)})
    text = np.frombuffer(json.dumps(described).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # what numpy calls .npz; its own savez takes names as keywords
        for name, value in {_DESCRIBED: text, **arrays}.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)
    path.write_bytes(buffer.getvalue())


def read_probes(path: Path) -> tuple[Probe, ...]:
    """Read the probes of a file that `write_probes` wrote."""
    with np.load(path, allow_pickle=False) as file:
        described = json.loads(file[_DESCRIBED].tobytes())
        probes = []
        for i, values in enumerate(described):
            prefix = f"{i}/inputs/"
            inputs = {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}
            labels = file[f"{i}/labels"] if f"{i}/labels" in file.files else None
            values.update({name: tuple(values[name]) for name in _LISTS})
            probes.append(Probe(**values, inputs=inputs, labels=labels))
    return tuple(probes)
