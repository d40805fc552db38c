"""Two processes train together, of which one has no clip: DDP, and FSDP2 through accelerate."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import make_clip
from theworld import TheWorld, TheWorldProcessor

SCRIPT = Path(__file__).parent / "two_processes.py"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_process_without_clips_trains_with_one_that_has_some(
    tmp_path: Path, shared_world: TheWorld, processor: TheWorldProcessor, way: str
) -> None:
    shared_world.save_pretrained(tmp_path / "model")
    inputs = processor(text="<start_of_world>hello there", world_frames=make_clip(), return_tensors="pt")
    torch.save(dict(inputs), tmp_path / "inputs.pt")
    port = str(free_port())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), way, str(rank), port, str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(text[-3000:] for text in said)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert {"model.world_projection.linear.weight", "model.temporal_embedding.embedding.weight"} <= set(first["moved"])
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in first["moved"]
    assert not any("vision" in name or "vae" in name for name in first["moved"])
    assert first["losses"][1] < first["losses"][0]
    assert second["losses"][1] < second["losses"][0]
    if way == "fsdp":
        assert "FSDPGemma3DecoderLayer" in first["wrapped"]
        assert "FSDPWorldEncoder" in first["wrapped"]
