"""What each of two processes does in `test_distributed`: a step of training, in which one process has no clip.

Run as `python two_processes.py WAY RANK PORT FOLDER`, WAY being "ddp" or "fsdp". Writes RANK.json to the folder.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(way: str, rank: int, port: str, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    import torch
    from accelerate import Accelerator

    from theworld import TheWorld

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    if way == "fsdp":
        _shard(accelerator)
    model: Any = TheWorld.from_pretrained(folder / "model", freeze="language")
    model.train()
    inputs = torch.load(folder / "inputs.pt", weights_only=True)
    if rank == 1:  # the same prompt's text, and no clip
        keep = inputs["input_ids"][0] != model.world_config.world_token_id
        inputs = {name: inputs[name][:, keep] for name in ("input_ids", "attention_mask", "token_type_ids")}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    losses = []
    for _ in range(2):
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    state = {  # gathered from both: a shard alone is no tensor
        name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        for name, tensor in accelerator.unwrap_model(model).state_dict().items()
    }
    moved = {}
    if rank == 0:
        before = TheWorld.from_pretrained(folder / "model").state_dict()
        moved = {name: not torch.equal(before[name].cpu(), tensor.cpu()) for name, tensor in state.items()}
    wrapped = sorted({type(m).__name__ for m in model.modules() if type(m).__name__.startswith("FSDP")})
    found = {"losses": losses, "moved": [name for name, has in moved.items() if has], "wrapped": wrapped}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    accelerator.end_training()


def _shard(accelerator: Any) -> None:
    """Have accelerate shard with FSDP2, as it does on GPUs; its launcher offers that on no CPU."""
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", reshard_after_forward=True
    )
    accelerator.state.distributed_type = DistributedType.FSDP


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
