"""What each of two ranks does in `test_sharded`: load Llama plain, sharded and tensor-parallel, and observe each.

Run as `python two_ranks.py CHECKPOINT OUTPUT` with torchrun's environment. Each rank writes OUTPUT/RANK.json: way ->
section -> location -> digest, and what the rank holds of one weight.
"""

import json
import sys
from pathlib import Path
from typing import Any

WEIGHT = "model.layers.1.mlp.up_proj.weight"


def main(checkpoint: str, output: Path) -> None:
    import torch
    import torch.distributed as dist

    from theworld_validate.fingerprint.take import observe
    from theworld_validate.probes.registry import family_of
    from theworld_validate.subjects.architectures import architecture_of

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = architecture_of(checkpoint)
    probes = family_of("llama")(found.config, found.model_class).build().probes[:1]
    seen: dict[str, Any] = {}
    for way in (plain, sharded, tensor_parallel, sharded_with_a_flipped_bit):
        model = way(found.model_class, checkpoint)
        weight = model.get_parameter(WEIGHT)
        sections: dict[str, dict[str, Any]] = {}
        for _, part in observe(model, probes, round_trip=False):
            assert not part.failures, part.failures
            for name, section in part.sections.items():
                sections.setdefault(name, {}).update({place: one.get("digest") for place, one in section.items()})
        held = weight.to_local().numel() if hasattr(weight, "to_local") else weight.numel()
        seen[way.__name__] = {"sections": sections, "held": held}
    (output / f"{dist.get_rank()}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


def plain(model_class: Any, checkpoint: str, **arguments: Any) -> Any:
    import torch

    return model_class.from_pretrained(checkpoint, dtype=torch.float32, **arguments)


def sharded(model_class: Any, checkpoint: str) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = plain(model_class, checkpoint), init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model_class: Any, checkpoint: str) -> Any:
    import warnings

    with warnings.catch_warnings(action="ignore"):  # the newer name is not in the oldest supported release
        return plain(model_class, checkpoint, tp_plan="auto")


def sharded_with_a_flipped_bit(model_class: Any, checkpoint: str) -> Any:
    """In the share of the second rank alone."""
    import torch
    import torch.distributed as dist

    model = sharded(model_class, checkpoint)
    if dist.get_rank() == 1:
        model.get_parameter(WEIGHT).to_local().detach().view(torch.int32).view(-1)[3] ^= 1
    return model


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
