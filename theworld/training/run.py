"""A whole run: its stages one after another, begun anew or continued.

In: a config. Out: a folder a stage, and run.json, which says what was asked and how far it came.
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import counted
from theworld.training.config import ConfigError, TrainingConfig

log = logging.getLogger("theworld.training")
RUN_FILE = "run.json"
_LOOKED_AT = 64  # samples of a dry run
# What may differ between a run and its continuation.
_MAY_DIFFER = {"output_dir", "save_every_steps", "keep_checkpoints", "log_every_steps", "logging", "latents_cache"}


def run(config: TrainingConfig, *, from_scratch: bool = False) -> None:
    """Run all stages that are not finished.

    Raises:
        ConfigError: if the folder cannot be written, or holds a run with another config.
    """
    import torch
    from accelerate import PartialState
    from transformers.utils.logging import disable_progress_bar

    from theworld.training.sharding import check_launcher
    from theworld.training.stages import EXPORT, loggers, run_stage, stage_folder

    disable_progress_bar()
    check_launcher()
    is_main = PartialState(cpu=not torch.cuda.is_available()).is_main_process
    folder = Path(config.output_dir)
    if is_main:
        _check_writable(folder)
        earlier = _read_run(folder / RUN_FILE)
        if from_scratch and earlier is not None:
            _remove(folder, earlier)
        elif earlier is not None:
            _check_same(config, earlier, folder)
        _write_run(folder / RUN_FILE, config, done=0)
    PartialState().wait_for_everyone()  # all see what was removed, and what is finished
    if config.logging is None and not loggers(config):
        log.info(
            "tensorboard is not installed (pip install 'theworld[train]'): losses are printed, and kept in "
            "trainer_state.json of each checkpoint"
        )
    for number, stage in enumerate(config.stages):
        if (stage_folder(config, number) / EXPORT).is_dir():
            log.info("stage %s is finished", stage.name)
        else:
            run_stage(config, number)
            PartialState().wait_for_everyone()
        if is_main:
            _write_run(folder / RUN_FILE, config, done=number + 1)


def dry_run(config: TrainingConfig) -> str:
    """Check config, processor, model and the first samples; return what would be done, some lines a stage."""
    from theworld.training import memory
    from theworld.training.data import Samples
    from theworld.training.stages import (
        load_model,
        load_processor,
        loggers,
        make_collator,
        source_of,
        training_arguments,
    )

    model = load_model(config, 0)
    processor = load_processor(config, model.config.world_config)
    samples, collate = Samples(config.data, processor.to_frames), make_collator(config, processor)
    batches = [collate([samples[i]]) for i in range(min(len(samples), _LOOKED_AT))]
    lengths = [batch["input_ids"].shape[1] for batch in batches]
    learned = [int((batch["labels"] >= 0).sum()) for batch in batches]
    lines = [
        f"{counted(len(samples), 'sample')}; of the first {len(batches)} each has {_range(lengths)} tokens, of which "
        f"{_range(learned)} are learned",
        f"logs: {', '.join(loggers(config)) or 'printed'}; saves: {config.save}",
    ]
    for number, stage in enumerate(config.stages):
        training_arguments(config, number)
        model.set_freeze(stage.freeze_config)
        trainable, total, percentage = model.get_trainable_parameters()
        length = counted(stage.steps, "step") if stage.steps else f"{stage.epochs:g} epoch{'s' * (stage.epochs != 1)}"
        trains = ", ".join(f"{name} at {stage.rate_of(name):g}" for name in stage.freeze_config.trainable)
        lines.append(f"stage {stage.name}: from {source_of(config, number)}, {length}, {stage.precision}: {trains}")
        lines.append(f"  {trainable:,} of {total:,} parameters train ({percentage:.2f} %)")
        if model.enable_world:
            lines.append("  " + memory.predict(config, stage, model.config, max(lengths)).sentence)
            if (of_run := memory.predict_run(config, stage, model.config, lengths)) is not None:
                lines.append("  " + of_run)
    return "\n".join(lines)


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(most) if least == most else f"{least} to {most}"


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}; output_dir names it") from error


def _read_run(path: Path) -> TrainingConfig | None:
    if not path.exists():
        return None
    try:
        return TrainingConfig.model_validate(json.loads(path.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read; restore it, or name another output_dir") from error


def _write_run(path: Path, config: TrainingConfig, *, done: int) -> None:
    from theworld.training.stages import stage_folder

    stages = [
        {"name": stage.name, "folder": stage_folder(config, number).name, "finished": number < done}
        for number, stage in enumerate(config.stages)
    ]
    values = {"config": config.model_dump(mode="json"), "stages": stages}
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def _folders(folder: Path, earlier: TrainingConfig) -> list[Path]:
    """What the stages of the earlier run wrote; the run's folder may have been moved since."""
    from theworld.training.stages import stage_folder

    return [folder / stage_folder(earlier, number).name for number in range(len(earlier.stages))]


def _remove(folder: Path, earlier: TrainingConfig) -> None:
    """Remove what the earlier run wrote, and nothing else."""
    for path in _folders(folder, earlier):
        shutil.rmtree(path, ignore_errors=True)
    (folder / RUN_FILE).unlink()


def _check_same(config: TrainingConfig, earlier: TrainingConfig, folder: Path) -> None:
    """Refuse to continue a run whose config was another; stages that were not begun may change."""
    begun = sum(path.exists() for path in _folders(folder, earlier))
    now, before = (
        {**values, "stages": dict(enumerate(values["stages"][:begun]))}
        for values in (which.model_dump(exclude=_MAY_DIFFER) for which in (config, earlier))
    )
    if changed := _first_difference(now, before):
        raise ConfigError(
            f"{folder / RUN_FILE}: the run was begun with another {changed}; restore it in the config, name another "
            "output_dir, or begin anew with --from-scratch"
        )


def _first_difference(now: Any, before: Any, where: str = "") -> str | None:
    if isinstance(now, dict) and isinstance(before, dict):
        for key in sorted(now.keys() | before.keys()):
            if found := _first_difference(now.get(key), before.get(key), f"{where}.{key}".lstrip(".")):
                return found
        return None
    return None if now == before else where
