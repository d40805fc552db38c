"""What became of a checkpoint's tensors: read, drawn anew after they were read, or never set."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from theworld_validate.releases.loading import load_with
from theworld_validate.releases.requests import Request


class _Model(torch.nn.Module):
    """Reads `kept`, draws `drawn` anew, though the file holds it, and leaves a buffer and `lost` to chance."""

    def __init__(self, kept: torch.Tensor) -> None:
        super().__init__()
        self.kept = torch.nn.Parameter(kept)
        self.drawn = torch.nn.Parameter(torch.randn(4))
        self.lost = torch.nn.Parameter(torch.randn(4))
        self.register_buffer("scale", torch.randn(4), persistent=False)


def test_tensors_that_differ_with_the_seed_are_told_apart(tmp_path: Path) -> None:
    save_file({"kept": torch.ones(4), "drawn": torch.ones(4)}, tmp_path / "model.safetensors")
    request = Request(target="tests:x", checkpoint=str(tmp_path), dtype="float32", probes="", fingerprint="", answer="")

    def load(checkpoint: str, **_: Any) -> torch.nn.Module:
        return _Model(torch.ones(4))

    facts = load_with(load, str(tmp_path), request, twice=True).facts
    assert facts.random == ("drawn", "lost", "scale")
    assert (facts.drawn_anew, facts.unset_buffers) == (("drawn",), ("scale",))
    assert not load_with(load, str(tmp_path), request).facts.random
