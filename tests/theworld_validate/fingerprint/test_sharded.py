"""Two ranks of a model that is sharded with FSDP2, or tensor-parallel: what is observed is the gathered model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from tests.theworld.test_distributed import free_port
from tests.theworld_validate.fingerprint import two_ranks
from theworld_validate.fingerprint.digest import DigestQueue

TinyOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def ranks(tiny_of: TinyOf, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank saw, by way."""
    output = tmp_path_factory.mktemp("ranks")
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, two_ranks.__file__, str(tiny_of("LlamaForCausalLM")), str(output)]
    both = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(text[-3000:] for text in said)
    return [json.loads((output / f"{rank}.json").read_text()) for rank in range(2)]


def test_a_sharded_model_has_the_digests_of_the_whole(ranks: list[dict[str, Any]]) -> None:
    for seen in ranks:
        assert (seen["plain"]["held"], seen["sharded"]["held"]) == (8192, 4096)
        assert all(seen["plain"]["sections"]["parameters"].values())
        assert seen["sharded"]["sections"] == seen["plain"]["sections"]  # trace, generation and gradients too


def test_a_tensor_parallel_model_has_the_weights_of_the_whole(ranks: list[dict[str, Any]]) -> None:
    """It sums in another order: what it gives is equal in no bit that can be told beforehand."""
    for seen in ranks:
        assert seen["tensor_parallel"]["held"] == 4096
        assert seen["tensor_parallel"]["sections"]["parameters"] == seen["plain"]["sections"]["parameters"]


def test_a_bit_in_the_other_ranks_share_is_seen_by_both(ranks: list[dict[str, Any]]) -> None:
    for seen in ranks:
        plain, spoilt = (seen[way]["sections"]["parameters"] for way in ("plain", "sharded_with_a_flipped_bit"))
        assert [name for name in plain if plain[name] != spoilt[name]] == [two_ranks.WEIGHT]


def test_a_distributed_tensor_of_one_rank() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        tensor = torch.randn(4, 3)
        asked: list[dict[str, Any]] = [{}, {}]
        queue = DigestQueue()
        for one, into in zip(
            (tensor, distribute_tensor(tensor, init_device_mesh("cpu", (1,)), [Shard(0)])), asked, strict=True
        ):
            queue.add(one, into)
        queue.finish()
        assert asked[0] == asked[1] != {}
    finally:
        dist.destroy_process_group()
