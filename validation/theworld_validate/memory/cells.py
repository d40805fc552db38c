"""Cells of the memory matrix: one configuration each, of a training step or of a call that generates.

In: choices. Out: `Cell`s, or a line that says what none can be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

from theworld.checkpoints.vae_rules import num_latent_steps
from theworld.freezing import PRESETS, FreezeConfig
from theworld_validate.memory.adapter_config import Adapter

# The model's presets, and one that only the first implementation notes' claims need: what the VAE's encoder adds.
FREEZES = {**PRESETS, "vae": FreezeConfig.from_flags(gemma_vision=True, gemma_language=True, cosmos_vae=False)}
PRECISIONS = ("bfloat16", "mixed")
OPTIMIZERS = ("adamw", "adamw-8bit")
NF4 = "nf4"
QUANTIZATIONS = ("none", NF4)
FSDP2, DDP = STRATEGIES = ("fsdp2", "ddp")
TRAIN, EVALUATE, GENERATE, ROLLOUT = TASKS = ("train", "evaluate", "generate", "rollout")
STEPS = (TRAIN, EVALUATE)  # a forward with labels; the others generate
# what a field can say
NAMES = {
    "task": TASKS,
    "preset": tuple(FREEZES),
    "precision": PRECISIONS,
    "optimizer": OPTIMIZERS,
    "quantization": QUANTIZATIONS,
    "strategy": STRATEGIES,
}
# field of `Cell` -> the least and the most; the prompt's length is bounded by the model's positions besides
RANGES = {
    "world_tokens": (1, 1024**2),
    "batch": (1, 1_000_000),
    "text_tokens": (1, 10_000_000),
    "accumulation": (1, 4096),
    "num_gpus": (1, 512),  # what FSDP2 cuts into pieces takes time that grows with them
    "frames": (1, 4001),
    "new_tokens": (1, 8192),  # the allocator is shown each of them
    "world_steps": (1, 1000),
    "denoising_steps": (1, 10_000),
}
# The fields that are a task's own; the others are every task's.
_OF_STEPS = ("chunked_loss", "adapter", "quantization")
_OF_RANKS = ("num_gpus", "strategy", "offload_activations", "offload_optimizer")
_OF_INFERENCE = ("frames", "new_tokens")
OWN_FIELDS = {
    TRAIN: ("preset", "checkpointing", "precision", "optimizer", "accumulation", *_OF_STEPS, *_OF_RANKS),
    EVALUATE: _OF_STEPS,
    GENERATE: _OF_INFERENCE,
    ROLLOUT: (*_OF_INFERENCE, "world_steps", "denoising_steps", "guidance", "offload"),
}
MAX_CELLS = 4096
SWEEPS = {"batch": "batch", "text": "text_tokens", "world": "world_tokens"}  # what a sweep goes over: its field
LEARNING_RATE = 1e-5
CHUNK_SIZE = 256  # tokens a piece of the chunked loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One configuration; fields of another task than its own have their defaults.

    Args:
        task: "train" (a step), "evaluate" (a forward with its loss, of a model that does not train), "generate" (a call
            of it with an image and a clip), or "rollout" (the same, with Cosmos looking ahead first).
        preset: what trains; with an adapter that decides, and this has its default.
        checkpointing: recompute activations, layer by layer.
        chunked_loss: compute head and loss in pieces.
        precision: "bfloat16" (everything), or "mixed" (float32 master weights for what trains, under autocast).
        world_tokens: of one latent step of the clip: a square number; 0 for a model of another family.
        batch: rows.
        text_tokens: of each row, besides one image (where the model takes any) and the clip.
        optimizer: "adamw" (its states in the parameters' dtype), or "adamw-8bit" (bitsandbytes').
        adapter: a LoRA adapter, which trains in place of a preset; None for none.
        quantization: "none", or "nf4": the linear layers in 4 bit, frozen.
        accumulation: batches that go forward and backward before each optimizer step.
        num_gpus: that train together; above 1 predicted only, for one rank.
        strategy: of several GPUs: "fsdp2" shares parameters, gradients and optimizer states, "ddp" has all on each.
        offload_activations: what autograd saves is on the CPU between forward and backward; predicted only.
        offload_optimizer: AdamW's states and its step are on the CPU; under FSDP2 shards and gradients are there too;
            predicted only.
        frames: of the clip, 1 + 4k; a training step has one.
        new_tokens: that are generated after the prompt.
        world_steps: latent steps that Cosmos predicts after the clip's.
        denoising_steps: of the diffusion.
        guidance: whether each of them also asks about the negative prompt.
        offload: keep what predicts on the CPU between uses.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True}

    task: str = TRAIN
    preset: str = "projection"
    checkpointing: bool = False
    chunked_loss: bool = False
    precision: str = "bfloat16"
    world_tokens: int = 784
    batch: int = 1
    text_tokens: int = 1024
    optimizer: str = "adamw"
    adapter: Adapter | None = None
    quantization: str = "none"
    accumulation: int = 1
    num_gpus: int = 1
    strategy: str = FSDP2
    offload_activations: bool = False
    offload_optimizer: bool = False
    frames: int = 1
    new_tokens: int = 128
    world_steps: int = 8
    denoising_steps: int = 35
    guidance: bool = True
    offload: bool = False

    @property
    def is_the_worlds(self) -> bool:
        """Whether it is of TheWorld with its branch; else of another family, whose step `family_steps` knows."""
        return self.world_tokens > 0

    @property
    def is_sharded(self) -> bool:
        """Whether parameters are shared by several GPUs."""
        return self.num_gpus > 1 and self.strategy == FSDP2

    @property
    def grid_side(self) -> int:
        """Latent cells of the clip, each way."""
        return math.isqrt(self.world_tokens)

    @property
    def num_observed_steps(self) -> int:
        """Latent steps of the clip."""
        return num_latent_steps(self.frames)

    @property
    def num_world_steps(self) -> int:
        """Latent steps in the prompt: the clip's, and those that are predicted."""
        return self.num_observed_steps + (self.world_steps if self.task == ROLLOUT else 0)

    @property
    def name(self) -> str:
        """The configuration in short; the workload is not part of it."""
        if self.task not in STEPS:
            parts = [self.task]
            parts += ["offload"] if self.offload else []
            parts += ["no guidance"] if not self.guidance else []
            return " + ".join(parts)
        parts = [self.task] if self.task == EVALUATE else []
        if self.adapter is not None:
            parts += [self.adapter.title]
        elif self.task == TRAIN:
            parts += [self.preset]
        parts += ["4 bit"] if self.quantization == NF4 else []
        parts += ["checkpointing"] if self.checkpointing else []
        parts += ["chunked loss"] if self.chunked_loss else []
        parts += ["mixed"] if self.precision == "mixed" else []
        parts += ["8-bit optimizer"] if self.optimizer == "adamw-8bit" else []
        parts += [f"{self.accumulation} batches a step"] if self.accumulation > 1 else []
        parts += ["activations offloaded"] if self.offload_activations else []
        parts += ["optimizer offloaded"] if self.offload_optimizer else []
        parts += [f"one of {self.num_gpus} GPUs{'' if self.is_sharded else ', DDP'}"] if self.num_gpus > 1 else []
        return " + ".join(parts)

    @property
    def title(self) -> str:
        """The configuration and its workload, on one line."""
        steps = f"{self.num_observed_steps} x " if self.num_observed_steps > 1 else ""
        world = f" + {steps}{self.world_tokens:,} world" if self.is_the_worlds else ""
        title = f"{self.name}: {self.batch} x ({self.text_tokens:,} text{world} tokens)"
        if self.task == ROLLOUT:
            title += f", {self.world_steps} steps ahead in {self.denoising_steps}"
        return title if self.task in STEPS else f"{title}, {self.new_tokens:,} new tokens"


def build_matrix(**choices: Sequence[Any]) -> tuple[Cell, ...]:
    """Every combination of the choices, once: field of `Cell` -> its values.

    Raises:
        ValueError: if nothing is in it, too much is, or a value is not one that a cell can have.
    """
    names = list(choices)
    different = [tuple(dict.fromkeys(values)) for values in choices.values()]
    num_cells = math.prod(map(len, different))
    if not num_cells:
        empty = next(name for name, values in choices.items() if not values)
        raise ValueError(f"the matrix has nothing in it: no value for {empty}")
    if num_cells > MAX_CELLS:
        asked = f"the matrix has {num_cells:,} configurations"
        raise ValueError(f"{asked}, and at most {MAX_CELLS:,} are taken; ask for less")
    for field, values in zip(names, different, strict=True):
        for value in values:
            check_value(field, value)
    cells = tuple(Cell(**dict(zip(names, values, strict=True))) for values in product(*different))
    for cell in cells:
        check_cell(cell)
    return cells


def build_family_matrix(*, preset: Sequence[Any], **choices: Sequence[Any]) -> tuple[Cell, ...]:
    """Every combination of the choices, for a model of another family, whose presets it knows itself.

    Raises:
        ValueError: as `build_matrix`.
    """
    cells = build_matrix(**choices)
    return tuple(replace(cell, preset=name, world_tokens=0) for name in dict.fromkeys(preset) for cell in cells)


def check_cell(cell: Cell) -> None:
    """Raise a ValueError that names what a cell cannot be."""
    others = {name for task in TASKS for name in OWN_FIELDS[task]} - set(OWN_FIELDS.get(cell.task, ()))
    for field in fields(Cell):
        check_value(field.name, getattr(cell, field.name))
        if field.name in others and getattr(cell, field.name) != field.default:
            raise ValueError(f"{field.name} is no part of the task {cell.task}; leave it out, or ask for another task")
    if cell.task == ROLLOUT and cell.grid_side % 2:
        fits = (cell.grid_side + 1) ** 2
        raise ValueError(f"a rollout's latent grid has even sides: {cell.world_tokens} is none; {fits} would do")
    if cell.quantization == NF4 and cell.task == TRAIN and cell.adapter is None:
        raise ValueError("layers in 4 bit do not train; give an adapter too")
    if cell.num_gpus > 1 and (cell.adapter is not None or cell.quantization == NF4 or cell.accumulation > 1):
        # With accumulation FSDP2's ranks keep whole gradients until the last batch.
        raise ValueError("adapters, layers in 4 bit and accumulation are predicted on one GPU; leave --gpus out")
    if cell.num_gpus > 1 and cell.optimizer != "adamw":
        raise ValueError("the 8-bit optimizer is predicted on one GPU; leave --gpus or --optimizer out")
    if cell.strategy == DDP and cell.num_gpus == 1:
        raise ValueError("strategy ddp is for several GPUs; ask for 2 or more, or leave it out")
    if cell.offload_optimizer and (cell.strategy == DDP or cell.optimizer != "adamw"):
        raise ValueError("offload_optimizer is for adamw on one GPU or under strategy fsdp2; leave one of the two out")


def check_value(field: str, value: object) -> None:
    """Raise a ValueError that says what a field of a cell must be, if this value is no such thing."""
    if field in NAMES:
        if value not in NAMES[field]:
            raise ValueError(f"no {field} is named {shown_value(value)!r}; there are {', '.join(NAMES[field])}")
        return
    if field == "adapter":
        if not (value is None or isinstance(value, Adapter)):
            raise ValueError(f"an adapter is given by its config, got {shown_value(value)}")
        return
    if field not in RANGES:
        if not isinstance(value, bool):
            raise ValueError(f"{field} must be true or false, got {shown_value(value)}")
        return
    least, most = RANGES[field]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{field} must be a whole number from {least:,} to {most:,}, got {shown_value(value)}")
    if field == "frames" and (value - 1) % 4:
        raise ValueError(f"frames must be 1 + 4k, got {value}; {1 + (value - 1) // 4 * 4} would do")
    if field == "world_tokens" and math.isqrt(value) ** 2 != value:
        side = max(round(math.sqrt(value)), 1)
        raise ValueError(f"world tokens of one step are a square grid: {value} is none; {side**2} would do")


def shown_value(value: object) -> str:
    """A value of any kind and size, for a line."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a number of {value.bit_length():,} bits"
    from theworld.checkpoints.error_text import one_line

    return one_line(value, 80)
