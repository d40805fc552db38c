"""Probes come back from their file as they were written."""

from pathlib import Path

import numpy as np

from theworld_validate.probes.probe import Probe
from theworld_validate.releases.probe_files import read_probes, write_probes


def test_probes_come_back_as_they_were(tmp_path: Path) -> None:
    ids = np.arange(6, dtype=np.int64).reshape(2, 3)
    whole = Probe(
        name="image", inputs={"input_ids": ids, "pixel_values": np.ones((1, 3, 2, 2), dtype=np.float32)}, labels=ids,
        use_cache=None, images_per_row=(1, 0), gradients=True, decode_steps=2, extras=("rows",), generation=("greedy",),
    )  # fmt: skip
    plain = Probe(name="text", inputs={"input_ids": ids})
    write_probes([whole, plain], tmp_path / "probes.npz")
    for made, read in zip((whole, plain), read_probes(tmp_path / "probes.npz"), strict=True):
        for field in Probe.__dataclass_fields__:
            if field not in ("inputs", "labels"):
                assert getattr(read, field) == getattr(made, field)
        assert {name: (value.dtype, value.tolist()) for name, value in read.inputs.items()} == {
            name: (value.dtype, value.tolist()) for name, value in made.inputs.items()
        }
        assert (read.labels is None) == (made.labels is None)
