"""What training does by default, and what a step keeps: the experiments behind the notes' statements on training.

In: nothing but the installed libraries. Out: `TrainingFacts`, measured here and now on steps of the tiny model, on the
config that `theworld-train` reads, and on one of two ranks that DDP and FSDP2 give their share of it.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld_validate.audits.gradients import step_inputs

_RANKS = 2
_KEY = "use_gradient_checkpointing"  # as the notes write it
_RATE = 1e-5
_SIDE = 16  # pixels of the clip: two latent cells each way


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """One optimizer step over two batches, everything unfrozen.

    Args:
        gradients: dtypes of the gradients after the second batch.
        trainable_bytes: of the weights that train, their gradients and AdamW's states.
        frozen_bytes: of the other weights.
        activation_bytes: what the second forward kept for its backward.
    """

    gradients: str
    trainable_bytes: int
    frozen_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.trainable_bytes + self.frozen_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """Measured facts.

    Args:
        trains_by_default: who was asked, without a word on freezing -> the components that train.
        precision_by_default: of a stage.
        refusal: what `theworld-train` says to a config with the notes' key for checkpointing; None if it takes it.
        trainable: how many parameters train in a step below.
        steps: "float32", "bfloat16" and "mixed" (bfloat16 with float32 weights where they train) -> a step.
        rank_shares: "ddp" and "fsdp" -> what one of two ranks holds of the parameters' bytes, in percent.
    """

    trains_by_default: Mapping[str, tuple[str, ...]]
    precision_by_default: str
    refusal: str | None
    trainable: int
    steps: Mapping[str, StepFacts]
    rank_shares: Mapping[str, float]


def measure_training() -> TrainingFacts:
    """Load the tiny model, take a step in each precision, and share it between two ranks."""
    import torch

    from theworld import TheWorld
    from theworld.components import parameters_by_component
    from theworld.levers.master_weights import use_master_weights
    from theworld.synthetic import cached_checkpoint
    from theworld.training.config import StageConfig

    tiny = cached_checkpoint("tiny")
    model: Any = TheWorld.from_pretrained(
        str(tiny.gemma), cosmos_model_name_or_path=str(tiny.cosmos), enable_world=True, dtype=torch.float32
    )
    components = parameters_by_component(model)
    own = tuple(name for name, found in components.items() if any(p.requires_grad for p in found.values()))
    stage = StageConfig(name="stage", steps=1, learning_rate=1e-3)
    inputs = step_inputs(str(tiny.gemma), model.world_config, side=_SIDE, num_frames=1)
    model.set_freeze("full")
    steps = {"float32": _step(model, inputs)}
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    steps["bfloat16"] = _step(model, inputs)
    use_master_weights(model)
    with torch.autocast("cpu", torch.bfloat16):
        steps["mixed"] = _step(model, inputs)
    return TrainingFacts(
        trains_by_default={"from_pretrained": own, "theworld-train": stage.freeze_config.trainable},
        precision_by_default=stage.precision,
        refusal=_refusal(),
        trainable=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        steps=steps,
        rank_shares=_rank_shares(model),
    )


def _step(model: Any, inputs: dict[str, Any]) -> StepFacts:
    """Two batches, then AdamW; the model's weights stay where they were, but for the step."""
    import torch

    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=_RATE)
    model.train()
    for _ in range(2):
        with _kept(model, inputs) as kept:
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    gradients = [parameter.grad for parameter in trainable if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    return StepFacts(
        gradients=", ".join(sorted({str(gradient.dtype).removeprefix("torch.") for gradient in gradients})),
        trainable_bytes=_bytes([*trainable, *gradients, *states]),
        frozen_bytes=_bytes(frozen),
        activation_bytes=sum(kept.values()),
    )


@contextlib.contextmanager
def _kept(model: Any, inputs: dict[str, Any]) -> Iterator[dict[int, int]]:
    """Note the storages that autograd keeps, but those of parameters and inputs: address -> bytes."""
    import torch

    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *inputs.values())}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _refusal() -> str | None:
    """Read a config that holds the notes' key and is otherwise whole."""
    from theworld.training.config import ConfigError, read_config

    stage = {"name": "stage", "steps": 1, "learning_rate": 1e-3}
    values = {"model": "m", "data": {"path": "d"}, "output_dir": "o", "stages": [stage], _KEY: True}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.json")
        path.write_text(json.dumps(values), encoding="utf-8")
        try:
            read_config(path)
        except ConfigError as error:
            return str(error).removeprefix(f"{path}: ")
    return None


def _rank_shares(model: Any) -> dict[str, float]:
    """What rank 0 of two holds; the other one does not exist, and nothing is sent. The model stays sharded."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def held(module: Any) -> int:
        return _bytes(p.to_local() if hasattr(p, "to_local") else p for p in module.parameters())

    whole = held(model)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=_RANKS)
    try:
        shares = {"ddp": held(DistributedDataParallel(model))}
        for module in model.modules():
            if type(module).__name__ in (model._no_split_modules or ()):
                fully_shard(module)
        fully_shard(model)
        shares["fsdp"] = held(model)
    finally:
        dist.destroy_process_group()
    return {name: 100.0 * share / whole for name, share in shares.items()}
