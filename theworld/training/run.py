"""A whole run: its stages one after another, begun anew or continued.

In: a config. Out: a folder a stage, and run.json, which says what was asked and how far it came.
"""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import read_json_object
from theworld.checkpoints.error_text import counted, one_line
from theworld.checkpoints.written_files import check_writable, replace_file
from theworld.training.config import ConfigError, TrainingConfig

log = logging.getLogger("theworld.training")
RUN_FILE = "run.json"
_LOOKED_AT = 64  # samples of a dry run
# What may differ between a run and its continuation.
_MAY_DIFFER = {"output_dir", "save_every_steps", "keep_checkpoints", "log_every_steps", "logging", "latents_cache"}


def run(config: TrainingConfig, *, from_scratch: bool = False) -> None:
    """Run all stages that are not finished. Nothing is written before the first of them is known to be able to begin.

    Raises:
        ConfigError: if something that the config names cannot be used, or the folder holds a run with another config.
    """
    import torch
    from accelerate import PartialState
    from transformers.utils.logging import disable_progress_bar

    from theworld.training.sharding import check_launcher
    from theworld.training.stages import EXPORT, run_stage, stage_folder

    disable_progress_bar()
    check_launcher()
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.is_main_process:
        _check_writable(config)
    earlier = _read_run(Path(config.output_dir, RUN_FILE))
    if earlier is not None and not from_scratch:
        _check_same(config, earlier)
    is_begun, removed = False, earlier if from_scratch else None
    if from_scratch:
        _check_removable(config, earlier)
    for number, stage in enumerate(config.stages):
        if (is_begun or removed is None) and (stage_folder(config, number) / EXPORT).is_dir():
            log.info("stage %s is finished", stage.name)
            continue
        run_stage(config, number, begin=_nothing if is_begun else partial(_begin, config, number, removed))
        state.wait_for_everyone()
        is_begun = True
        if state.is_main_process:
            _write_run(config, done=number + 1)
    if state.is_main_process and not is_begun:
        _write_run(config, done=len(config.stages))  # the run before may have been killed just before it


def _begin(config: TrainingConfig, number: int, removed: TrainingConfig | None) -> None:
    """From here on there is a run; all processes call this.

    Args:
        number: of the first stage that is not finished.
        removed: an earlier run, of which nothing shall be left.
    """
    from accelerate import PartialState

    from theworld.training.stages import loggers

    state = PartialState()
    state.wait_for_everyone()  # all have read what is there
    if state.is_main_process:
        if removed is not None:
            _remove(Path(config.output_dir), removed)
        _write_run(config, done=number)
    state.wait_for_everyone()  # all see what was removed
    if config.logging is None and not loggers(config):
        log.info(
            "tensorboard is not installed (pip install 'theworld[train]'): losses are printed, and kept in "
            "trainer_state.json of each checkpoint"
        )


def _nothing() -> None:
    pass


def dry_run(config: TrainingConfig) -> str:
    """Check config, processor, model and the first samples; return what would be done, some lines a stage."""
    from transformers.utils.logging import disable_progress_bar

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

    disable_progress_bar()
    _check_writable(config)
    model = load_model(config, 0)
    processor = load_processor(config, model.config.world_config)
    samples, collate = Samples(config.data, processor.to_frames), make_collator(config, processor)
    lengths, learned = [], []
    for i in range(min(len(samples), _LOOKED_AT)):  # one at a time: a clip is megabytes
        batch = collate([samples[i]])
        lengths.append(batch["input_ids"].shape[1])
        learned.append(int((batch["labels"] >= 0).sum()))
    lines = [
        f"{counted(len(samples), 'sample')}; of the first {len(lengths)} each has {_range(lengths)} tokens, of which "
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


def _check_writable(config: TrainingConfig) -> None:
    """Refuse folders that cannot be written to, before anything is loaded; none is made."""
    rollout_cache = config.rollout.cache if config.rollout is not None else None
    folders = {"output_dir": config.output_dir, "latents_cache": config.latents_cache, "rollout.cache": rollout_cache}
    for field, folder in folders.items():
        try:
            if folder is not None:
                check_writable(Path(folder))
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"{one_line(folder)}: cannot be written: {reason}; {field} names it") from error


def _read_run(path: Path) -> TrainingConfig | None:
    if not os.path.lexists(path):
        return None
    try:
        return TrainingConfig.model_validate(read_json_object(path)["config"])
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{one_line(path)}: cannot be read; restore it, or name another output_dir") from error


def _write_run(config: TrainingConfig, *, done: int) -> None:
    from theworld.training.stages import stage_folder

    stages = [
        {"name": stage.name, "folder": stage_folder(config, number).name, "finished": number < done}
        for number, stage in enumerate(config.stages)
    ]
    values = {"config": config.model_dump(mode="json"), "stages": stages}
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / RUN_FILE, json.dumps(values, indent=2) + "\n")


def _folders(folder: Path, earlier: TrainingConfig) -> list[Path]:
    """What the stages of the earlier run wrote; the run's folder may have been moved since."""
    from theworld.training.stages import stage_folder

    return [folder / stage_folder(earlier, number).name for number in range(len(earlier.stages))]


def _remove(folder: Path, earlier: TrainingConfig) -> None:
    """Remove what the earlier run wrote, and nothing else."""
    for path in _folders(folder, earlier):
        shutil.rmtree(path, ignore_errors=True)
    (folder / RUN_FILE).unlink()


def _check_removable(config: TrainingConfig, earlier: TrainingConfig | None) -> None:
    """Refuse to begin anew beside stages that nobody can say the run of, or out of what would be removed."""
    folder = Path(config.output_dir)
    if earlier is None:
        for path in _folders(folder, config):
            if _is_begun(path):
                raise ConfigError(
                    f"{path}: there is no {RUN_FILE} that says whose it is; remove it, or name another output_dir"
                )
        return
    needed = {
        "model": config.model,
        "cosmos": config.cosmos,
        "data.path": config.data.path,
        "data.files": config.data.files,
    }
    for path in _folders(folder, earlier):
        for key, value in needed.items():
            if value is not None and Path(value).resolve().is_relative_to(path.resolve()):
                raise ConfigError(f"{key}: {value} is in {path}, which --from-scratch removes; copy it elsewhere")


def _check_same(config: TrainingConfig, earlier: TrainingConfig) -> None:
    """Refuse to continue a run whose config was another; stages that were not begun may change, and all if none was."""
    folder = Path(config.output_dir)
    begun = max((i for i, path in enumerate(_folders(folder, earlier), start=1) if _is_begun(path)), default=0)
    if not begun:
        return
    now, before = (
        {**values, "stages": dict(enumerate(values["stages"][:begun]))}
        for values in (which.model_dump(exclude=_MAY_DIFFER) for which in (config, earlier))
    )
    if changed := _first_difference(now, before):
        raise ConfigError(
            f"{folder / RUN_FILE}: the run was begun with another {changed}; restore it in the config, name another "
            "output_dir, or begin anew with --from-scratch"
        )


def _is_begun(folder: Path) -> bool:
    """Whether a stage left something to go on from."""
    from theworld.training.stages import EXPORT

    return (folder / EXPORT).exists() or any(folder.glob("checkpoint-*"))


def _first_difference(now: Any, before: Any, where: str = "") -> str | None:
    if isinstance(now, dict) and isinstance(before, dict):
        for key in sorted(now.keys() | before.keys()):
            if found := _first_difference(now.get(key), before.get(key), f"{where}.{key}".lstrip(".")):
                return found
        return None
    return None if now == before else where
