"""A stage's trainer: transformers' `Trainer`, with rates by component, exact checkpoints and more to read.

In: a model whose freeze is set, samples and a stage. Out: checkpoints in the stage's folder. Steps, accumulation,
clipping, schedules, DDP and FSDP2 are `Trainer`'s and Accelerate's.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.utils import get_total_norm
from transformers import Trainer, TrainerCallback

from theworld.components import component_of
from theworld.training import checkpoint as files
from theworld.training import sharding
from theworld.training.config import ConfigError, FailedError, StageConfig
from theworld.training.data import SeededOrder
from theworld.training.optimizer import check_rates, parameter_groups

STATE = "trainer_state.json"


class NonFiniteError(FailedError):
    """The loss, or a gradient, is not a number any more."""


class StageTrainer(Trainer):
    """Trains one stage.

    Args:
        stage: what the config says of it.
        order: the order of samples.
        keep_checkpoints: how many are kept.
        encode: what to do with a batch's frames before the model sees them; None hands them on.
        The others are those of `Trainer`.
    """

    model: Any  # what `Trainer` sets while it trains
    optimizer: Any
    lr_scheduler: Any
    args: Any

    def __init__(
        self,
        *,
        stage: StageConfig,
        order: SeededOrder,
        keep_checkpoints: int,
        encode: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Gemma 3 says no, since its own loss once ignored the count; here its loss takes it.
        self.model_accepts_loss_kwargs = True
        self._stage, self._order, self._keep, self._encode = stage, order, keep_checkpoints, encode
        self._batches: list[dict[str, Any]] = []
        self._norms: dict[str, float] = {}
        self._counts, self._since = torch.zeros(2, dtype=torch.float64), time.monotonic()
        self.num_longest = 0  # tokens of the longest batch
        self.add_callback(_AtTheStart(self))

    # The order and the optimizer

    def create_accelerator_and_postprocess(self) -> None:
        """Make the Accelerator, and have it shard where the launcher asked for FSDP2."""
        super().create_accelerator_and_postprocess()
        compute_dtype = torch.bfloat16 if self.args.bf16 else None
        self.is_fsdp_enabled = sharding.use_plugin(self.accelerator, compute_dtype=compute_dtype)

    def _get_train_sampler(self, train_dataset: Any = None) -> SeededOrder:  # noqa: ARG002
        return self._order

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Build the optimizer over groups by component."""
        made = self.model if model is None else model
        optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, made)
        groups = parameter_groups(made, self._stage, set(self.get_decay_parameter_names(made)))
        self.optimizer_cls_and_kwargs = optimizer_class, {**kwargs, "params": groups}
        return super().create_optimizer(model)

    def at_the_start(self) -> None:
        """Check that what was asked has arrived, now that everything is prepared."""
        check_rates(self.model, self.optimizer, self.lr_scheduler, self._stage)

    def choose_epoch(self) -> None:
        """Set the order's epoch: accelerate does not reach a sampler behind skipped batches on several processes."""
        self._order.set_epoch(int(self.state.epoch or 0))

    # A step

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        prepared = super()._prepare_inputs(inputs)
        return prepared if self._encode is None else self._encode(prepared)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **kwargs: Any) -> Any:
        """The model's loss; a batch without clips gives parameters of the branch a gradient of zero, and not none."""
        if self.is_fsdp_enabled:
            self._check_pictures("pixel_values" in inputs)
        loss: Any = super().compute_loss(model, inputs, *rest, **kwargs)
        if loss.requires_grad:
            return loss
        return loss + 0.0 * sum(p.sum() for p in model.parameters() if p.requires_grad)

    def _check_pictures(self, has_some: bool) -> None:
        """Processes that gather the vision tower's shards would wait for ever for one that does not."""
        counted = self.accelerator.reduce(torch.tensor(float(has_some), device=self.args.device), "sum")
        if int(counted) not in (0, self.accelerator.num_processes):
            raise ConfigError(
                f"in step {self.state.global_step + 1}, {int(counted)} of {self.accelerator.num_processes} processes "
                "have pictures; under FSDP2 give every sample a picture, or none"
            )

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward pass.

        Raises:
            NonFiniteError: if the loss is not finite; the batch is saved beside the checkpoints.
        """
        self._batches.append(inputs)
        self.num_longest = max(self.num_longest, inputs["input_ids"].shape[1])
        clips = inputs["world_frames"].flatten(0, -5).shape[0] if "world_frames" in inputs else 0
        if "world_num_frames" in inputs:
            clips = int((inputs["world_num_frames"] > 0).sum())
        self._counts += torch.tensor([int(inputs["attention_mask"].sum()), clips], dtype=torch.float64)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            self._fail(f"the loss is {float(loss)}")
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        step = self.state.global_step + 1
        if step == 1 or step % self.args.logging_steps == 0:
            self._norms = self._norms_by_component()
        norm: Any = super()._clip_grad_norm(model)
        if not torch.isfinite(torch.as_tensor(norm)):
            self._fail(f"the gradient's norm is {float(norm)}")
        self._batches.clear()
        return norm

    def _norms_by_component(self) -> dict[str, float]:
        grads: dict[str, list[torch.Tensor]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                grads.setdefault(component_of(name), []).append(parameter.grad)
        norms = {name: get_total_norm(some) for name, some in grads.items()}
        return {name: float(files.whole_tensor(norm)) for name, norm in norms.items()}

    def _fail(self, what: str) -> None:
        name = f"bad-batch-step-{self.state.global_step + 1}-process-{self.args.process_index}.safetensors"
        path = Path(self.args.output_dir, name)
        files.write_tensors(
            {
                f"{i}.{key}": value.detach().cpu().contiguous()
                for i, batch in enumerate(self._batches)
                for key, value in batch.items()
                if torch.is_tensor(value)
            },
            path,
        )
        raise NonFiniteError(
            f"stage {self._stage.name}, step {self.state.global_step + 1}: {what}; the batch is saved in {path}"
        )

    # What is logged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with norms by component, rates by component, throughput and peak memory."""
        if "loss" in logs:
            now = time.monotonic()
            tokens, clips = self.accelerator.reduce(self._counts.to(self.args.device), "sum").tolist()
            seconds = max(now - self._since, 1e-9)
            self._counts.zero_()
            self._since = now
            rates = {group["component"]: group["lr"] for group in self.optimizer.param_groups}
            logs |= {f"learning_rate/{name}": rate for name, rate in rates.items()}
            logs |= {f"grad_norm/{name}": norm for name, norm in self._norms.items()}
            logs |= {"tokens_per_second": tokens / seconds, "clips_per_second": clips / seconds}
            logs["peak_memory_bytes"] = peak_memory_bytes()
        super().log(logs, start_time)

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ARG002
        target = Path(self.args.output_dir, f"checkpoint-{self.state.global_step:08d}")
        is_main, scratch = self.is_world_process_zero(), files.scratch_of(target)
        if is_main:
            files.start_writing(target)
        self.accelerator.wait_for_everyone()
        weights = files.trained_tensors(self.model)
        tensors, numbers = files.optimizer_tensors(self.model, self.optimizer)
        files.save_random_state(scratch / f"random-{self.args.process_index}.safetensors")
        if is_main:
            files.write_tensors(weights, scratch / files.WEIGHTS)
            files.write_tensors(tensors, scratch / files.OPTIMIZER)
            progress = {
                "step": self.state.global_step,
                "max_steps": self.state.max_steps,
                "schedule": self.lr_scheduler.state_dict(),
                "optimizer": numbers,
            }
            (scratch / files.PROGRESS).write_text(json.dumps(progress, indent=2) + "\n")
            self.state.save_to_json(str(scratch / STATE))
        self.accelerator.wait_for_everyone()
        if is_main:
            files.note_sizes(scratch)
            files.publish(target)
            files.remove_old(target.parent, self._keep)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint, files.WEIGHTS))
        chosen = self.model if model is None else model
        trains = {name: p for name, p in chosen.named_parameters() if p.requires_grad}
        if saved.keys() != trains.keys():
            name = min(saved.keys() ^ trains.keys())
            raise ValueError(f"{resume_from_checkpoint}: {name} trains either here or there; begin with --from-scratch")
        for name, parameter in trains.items():
            files.fill(parameter, saved[name])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        progress = json.loads(Path(checkpoint, files.PROGRESS).read_text())
        tensors = load_file(Path(checkpoint, files.OPTIMIZER))
        files.load_optimizer(self.model, self.optimizer, tensors, progress["optimizer"])
        self.lr_scheduler.load_state_dict(progress["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def _load_rng_state(self, checkpoint: str | None) -> None:
        path = Path(checkpoint or "", f"random-{self.args.process_index}.safetensors")
        if checkpoint is not None and path.is_file():  # not there where more processes go on than were
            files.load_random_state(path)


class _AtTheStart(TrainerCallback):
    def __init__(self, trainer: StageTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._trainer.at_the_start()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._trainer.choose_epoch()


def peak_memory_bytes() -> int:
    """The most memory that was taken: on the GPU where there is one, of the process elsewhere."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
