"""One stage: load what the one before left, train, export.

In: a config and the number of a stage. Out: `stage-N-NAME/model`, under the published names. Each stage has a model,
an optimizer and an Accelerator of its own: under FSDP2 a parameter that ran frozen is never unfrozen.
"""

import gc
import importlib.util
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PrinterCallback, TrainingArguments, set_seed

from theworld import TheWorld, TheWorldProcessor
from theworld.checkpoints.error_text import counted
from theworld.levers.master_weights import use_master_weights
from theworld.partial_base import read_base
from theworld.partial_checkpoint import is_partial_checkpoint
from theworld.training import checkpoint as files
from theworld.training import memory
from theworld.training.collate import Collator
from theworld.training.config import ConfigError, TrainingConfig
from theworld.training.data import Samples, SeededOrder, TooManyBrokenError
from theworld.training.latents_cache import LatentsCache
from theworld.training.narrator import Narrator, narrate_start
from theworld.training.optimizer import trainer_name
from theworld.training.sharding import may_be_unused
from theworld.training.trainer import STATE, StageTrainer, peak_memory_bytes

log = logging.getLogger("theworld.training")
EXPORT = "model"
_NEVER = 10**9  # steps


def stage_folder(config: TrainingConfig, number: int) -> Path:
    """Where a stage (counted from 0) keeps its things."""
    return Path(config.output_dir, f"stage-{number + 1}-{config.stages[number].name}")


def source_of(config: TrainingConfig, number: int) -> str:
    """The checkpoint that a stage starts from."""
    return config.model if number == 0 else str(stage_folder(config, number - 1) / EXPORT)


def load_model(config: TrainingConfig, number: int) -> Any:
    """Load a stage's model, frozen and in the dtype that the stage says.

    Raises:
        ValueError: if it cannot be loaded, or nothing would train.
    """
    stage = config.stages[number]
    arguments: dict[str, Any] = {}
    if number == 0:
        world = config.world.model_dump(exclude_none=True)
        arguments = {"cosmos_model_name_or_path": config.cosmos, **({"world": world} if world else {})}
    if config.attention is not None:
        arguments["attn_implementation"] = config.attention
    dtype = torch.float32 if stage.precision == "float32" else torch.bfloat16
    model = TheWorld.from_pretrained(
        source_of(config, number), dtype=dtype, freeze=stage.freeze_config, **_given(arguments)
    )
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"stage {stage.name}: nothing trains; the model has none of the components that freeze names")
    if config.save == "trainable" and not model.enable_world:
        raise ConfigError("save: trainable needs a model with a world branch; write save: whole")
    return model


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def load_processor(config: TrainingConfig, world_config: Any) -> TheWorldProcessor:
    """Load the processor of the run's model, for clips as its branch takes them.

    Args:
        world_config: of the model; None where it has no branch.

    Raises:
        ValueError: if there is none.
    """
    source = read_base(Path(config.model)).name_or_path if is_partial_checkpoint(config.model) else config.model
    rules = {f"world_{name}": getattr(config.data, name) for name in ("fps", "resize", "length")}
    try:
        return TheWorldProcessor.from_pretrained(source, **_given({"world_config": world_config, **rules}))
    except OSError as error:
        raise ConfigError(f"{source}: no processor: {' '.join(str(error).split())[:200]}") from error


def training_arguments(config: TrainingConfig, number: int) -> TrainingArguments:
    """What the stage asks of `Trainer`."""
    stage = config.stages[number]
    warms = stage.schedule == "constant" and stage.warmup_steps
    arguments = TrainingArguments(
        output_dir=str(stage_folder(config, number)),
        max_steps=stage.steps or -1,
        num_train_epochs=stage.epochs or 1,
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.gradient_accumulation_steps,
        learning_rate=max(map(stage.rate_of, stage.freeze_config.trainable)),
        lr_scheduler_type="constant_with_warmup" if warms else stage.schedule,
        warmup_steps=stage.warmup_steps,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_grad_norm if stage.max_grad_norm is not None else float("inf"),
        optim=trainer_name(stage.optimizer),
        bf16=stage.precision == "mixed",
        seed=config.seed,
        logging_steps=config.log_every_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # such a loss ends the run
        save_strategy="steps",
        save_steps=config.save_every_steps or _NEVER,
        report_to=list(loggers(config)),
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=may_be_unused(stage.freeze_config.trainable),
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs are for `accelerate launch`
    return arguments


def loggers(config: TrainingConfig) -> tuple[str, ...]:
    """The loggers that the config names; TensorBoard, if it names none and it is installed."""
    if config.logging is not None:
        return config.logging
    return ("tensorboard",) if importlib.util.find_spec("tensorboard") is not None else ()


def run_stage(config: TrainingConfig, number: int) -> None:
    """Train a stage from its newest whole checkpoint, or from its start, and export it."""
    stage, folder = config.stages[number], stage_folder(config, number)
    # What mixed precision wraps refers to itself: the model of the stage before stays until it is collected.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    set_seed(config.seed)
    model = load_model(config, number)
    arguments = training_arguments(config, number)
    processor = load_processor(config, model.config.world_config)
    samples = Samples(config.data, processor.to_frames)
    cache = make_cache(config, number, model, is_shared=arguments.world_size > 1)
    if stage.precision == "mixed":
        use_master_weights(model)
        _keep_masters(config, number, model)
    if stage.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if stage.chunked_loss is not None:
        model.set_chunked_loss(stage.chunked_loss)
    trainer = StageTrainer(
        model=model,
        args=arguments,
        stage=stage,
        order=SeededOrder(len(samples), config.seed, group_size=config.data.group_size),
        keep_checkpoints=config.keep_checkpoints,
        encode=cache,
        train_dataset=samples,
        data_collator=make_collator(config, processor),
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        trainer.add_callback(Narrator(stage))
        narrate_start(stage, model, len(samples))
        if trainer.is_fsdp_enabled:
            log.info("stage %s: sharded over %d processes", stage.name, arguments.world_size)
    newest = files.checkpoints(folder)[-1:]
    if not newest or not _is_finished(newest[0]):
        if newest and trainer.is_world_process_zero():
            log.info("stage %s goes on from %s", stage.name, newest[0])
        _train(trainer, number, resume_from=str(newest[0]) if newest else None)
        _compare_memory(config, number, trainer)
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        export(config, number, processor)
        if cache is not None:
            log.info(
                "stage %s: %s encoded, %d read from the cache",
                stage.name,
                counted(cache.num_encoded, "clip"),
                cache.num_read,
            )
        if samples.broken:
            log.warning("stage %s skipped %s", stage.name, counted(len(samples.broken), "broken sample"))
    accelerator = trainer.accelerator
    accelerator.wait_for_everyone()
    del trainer, model
    accelerator.free_memory()


def _train(trainer: StageTrainer, number: int, *, resume_from: str | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=resume_from)
    except TooManyBrokenError as error:
        if number == 0 and trainer.state.global_step == 0:  # nothing was trained yet: it is the file's fault
            raise ConfigError(str(error)) from error
        raise


def _compare_memory(config: TrainingConfig, number: int, trainer: StageTrainer) -> None:
    """Say what the stage took beside what is predicted, which is the allocator's peak on one GPU."""
    stage, model = config.stages[number], trainer.model
    if not torch.cuda.is_available() or trainer.args.world_size > 1 or not model.enable_world:
        log.info("stage %s: peak memory is held against memory predict for a run on one GPU only", stage.name)
        return
    predicted = memory.predict(config, stage, model.config, trainer.num_longest)
    memory.compare(stage, peak_memory_bytes(), predicted)


def _keep_masters(config: TrainingConfig, number: int, model: Any) -> None:
    """Go on from the float32 weights of the stage before, which its export has rounded, where they train on."""
    before = files.checkpoints(stage_folder(config, number - 1))[-1:] if number else []
    saved = load_file(before[0] / files.WEIGHTS) if before else {}
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float32 and name in saved and saved[name].dtype == torch.float32:
            files.fill(parameter, saved[name])


def make_cache(config: TrainingConfig, number: int, model: Any, *, is_shared: bool) -> LatentsCache | None:
    """The cache of latents, if the config names a folder and the VAE is frozen in this stage."""
    if config.latents_cache is None or not model.enable_world:
        return None
    stage = config.stages[number]
    if {"vae_encoder", "vae_quant_conv"} & set(stage.freeze_config.trainable):
        log.warning("stage %s trains the VAE, so its latents change: latents_cache is not used", stage.name)
        return None
    return LatentsCache(Path(config.latents_cache), model.world_encoder, is_shared=is_shared)


def make_collator(config: TrainingConfig, processor: Any) -> Collator:
    """The collator, which also says what the model is to predict after each clip."""
    if config.rollout is None:
        return Collator(processor)
    return Collator(processor, num_world_steps=config.rollout.num_world_steps, rollout=config.rollout.to_config())


def _is_finished(checkpoint: Path) -> bool:
    progress = json.loads((checkpoint / files.PROGRESS).read_text())
    return progress["step"] >= progress["max_steps"]


def export(config: TrainingConfig, number: int, processor: Any) -> None:
    """Write the stage's model: what the stage started from, with what its last checkpoint trained.

    It is put together from files, so that it is the same for every way of running on several processes.
    """
    folder = stage_folder(config, number)
    model = load_model(config, number)
    parameters = dict(model.named_parameters())
    for name, tensor in load_file(files.checkpoints(folder)[-1] / files.WEIGHTS).items():
        files.fill(parameters[name], tensor)
    target = folder / EXPORT
    scratch = files.start_writing(target)
    if config.save == "trainable":
        model.save_pretrained(scratch, trainable_only=True)
    else:
        model.save_pretrained(scratch)
    processor.save_pretrained(scratch)
    shutil.copy2(files.checkpoints(folder)[-1] / STATE, folder / STATE)
    files.publish(target)
    log.info("stage %s: exported to %s", config.stages[number].name, target)
