"""What a stage's trainer promises: rates that arrive, a loss by tokens, frozen weights, and clear ends."""

import json
import os
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file
from transformers import Trainer

from tests.conftest import load_world
from tests.theworld.training.conftest import make, question, stage, write_config
from theworld.components import parameters_by_component
from theworld.synthetic import SyntheticCheckpoint
from theworld.training import checkpoint as files
from theworld.training import stages as stages_module
from theworld.training.__main__ import _answer
from theworld.training.config import ConfigError, TrainingConfig
from theworld.training.data import SeededOrder
from theworld.training.optimizer import RateError, check_rates, parameter_groups, trainer_name
from theworld.training.run import run
from theworld.training.stages import EXPORT, load_model, stage_folder, training_arguments
from theworld.training.trainer import NonFiniteError, StageTrainer

RATES = {"language_model": 1e-4, "world_projection": 1e-2, "temporal_embedding": 1e-3}


def history(config: TrainingConfig, number: int = 0) -> list[dict[str, Any]]:
    state = json.loads((stage_folder(config, number) / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def exported(config: TrainingConfig, number: int = 0) -> dict[str, torch.Tensor]:
    return load_file(stage_folder(config, number) / EXPORT / "model.safetensors")


# Learning rates


def prepared(tiny: SyntheticCheckpoint, **fields: Any) -> tuple[Any, Any, Any, Any]:
    config = make({"model": "a", "data": {"path": "a"}, "output_dir": "a"}, stages=[stage(**fields)])
    model = load_world(tiny, freeze=config.stages[0].freeze_config)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.stages[0], set()))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 4)
    return model, optimizer, schedule, config.stages[0]


def test_rates_arrive_by_component(tiny: SyntheticCheckpoint) -> None:
    asked = prepared(tiny, freeze="language", learning_rate=RATES)
    check_rates(*asked)
    model, optimizer, _, _ = asked
    by_component = {group["component"]: group for group in optimizer.param_groups}
    for name, parameters in parameters_by_component(model).items():
        trains = name in RATES
        assert (name in by_component) == trains
        if trains:
            held = {id(p) for p in by_component[name]["params"]}
            assert held == {id(p) for p in parameters.values()}
            assert by_component[name]["lr"] == RATES[name] / 4


def _one_rate(model: Any, optimizer: Any, schedule: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 1e-4


def _other_base(model: Any, optimizer: Any, schedule: Any) -> None:
    schedule.base_lrs = [1e-4] * len(schedule.base_lrs)


def _lost(model: Any, optimizer: Any, schedule: Any) -> None:
    optimizer.param_groups[0]["params"].pop()


def _twice(model: Any, optimizer: Any, schedule: Any) -> None:
    optimizer.param_groups[0]["params"].append(optimizer.param_groups[0]["params"][0])


def _frozen(model: Any, optimizer: Any, schedule: Any) -> None:
    optimizer.param_groups[0]["params"].append(next(model.model.vision_tower.parameters()))


def _swapped(model: Any, optimizer: Any, schedule: Any) -> None:
    first, second = optimizer.param_groups[:2]
    first["params"], second["params"] = second["params"], first["params"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (_one_rate, "and 0.01 was asked for world_projection|and 0.001 was asked for temporal_embedding|0.0001 was"),
        (_other_base, "schedule from 0.0001"),
        (_lost, "trains, and the optimizer does not hold it"),
        (_twice, "twice"),
        (_frozen, "holds model.vision_tower.* which does not train"),
        (_swapped, "was asked for"),
    ],
)
def test_a_rate_that_does_not_arrive_is_an_error(tiny: SyntheticCheckpoint, fault: Any, said: str) -> None:
    model, optimizer, schedule, asked = prepared(tiny, freeze="language", learning_rate=RATES)
    fault(model, optimizer, schedule)
    with pytest.raises(RateError, match=said):
        check_rates(model, optimizer, schedule, asked)


def test_the_trainer_checks_after_it_has_prepared(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an optimizer's groups were built again with the one rate of the arguments."""

    def one_group(self: Any, model: Any = None) -> Any:
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-2)
        return self.optimizer

    monkeypatch.setattr(StageTrainer, "create_optimizer", one_group)
    config = make(values, stages=[stage(freeze="language", learning_rate=RATES)])
    with pytest.raises(RateError, match=r"and 0\.0001 was asked for language_model"):
        run(config)


def test_an_optimizer_that_is_not_installed_says_so() -> None:
    assert trainer_name("adamw") == "adamw_torch"
    with pytest.raises(ConfigError, match="needs the package bitsandbytes; install it, or write adamw"):
        trainer_name("adamw_8bit")
    with pytest.raises(ConfigError, match="only a pickle holds, so no run could go on from it; write adamw_8bit"):
        trainer_name("adamw_torchao_8bit")


# Steps


def test_accumulation_equals_the_large_batch(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers differ in length, so a mean of means is another loss: 4 x 1 within 1e-6 of 4, in float32."""
    results = {}
    for name, counts in {"large": (4, 1), "accumulated": (1, 4), "means": (1, 4)}.items():
        if name == "means":
            monkeypatch.setattr(Trainer, "_get_num_items_in_batch", lambda *_: None)
        fields = {"batch_size": counts[0], "gradient_accumulation_steps": counts[1], "steps": 3}
        config = make(values, stages=[stage(**fields)], output_dir=str(tmp_path / name))
        run(config)
        results[name] = [entry["loss"] for entry in history(config)], history(config)[0]["grad_norm"]
    assert results["accumulated"][0] == pytest.approx(results["large"][0], rel=1e-6)
    assert results["accumulated"][1] == pytest.approx(results["large"][1], rel=1e-5)
    assert results["means"][0] != pytest.approx(results["large"][0], rel=1e-3)


def test_three_stages_train_what_they_say_and_nothing_else(
    values: dict[str, Any], tiny: SyntheticCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "theworld.training")
    stages = [
        stage(steps=2),
        stage("vision", steps=2, freeze="vision", gradient_checkpointing=True, chunked_loss=8),
        stage("language", epochs=0.5, steps=None, freeze="language", learning_rate=RATES),
    ]
    config = make(values, stages=stages)
    run(config)
    before = {n: p.clone() for n, p in load_world(tiny).state_dict().items()}
    components = parameters_by_component(load_world(tiny))
    for number, freeze in enumerate(config.stages):
        model = load_model(config, number + 1) if number < 2 else None
        after = (model or _load(stage_folder(config, 2) / EXPORT)).state_dict()
        moved = {name for name, ps in components.items() if any(not torch.equal(before[p], after[p]) for p in ps)}
        assert moved == set(freeze.freeze_config.trainable)
        before = {name: tensor.clone() for name, tensor in after.items()}
    last = history(config, 2)[-1]
    assert {f"learning_rate/{name}" for name in RATES} <= last.keys()
    assert {f"grad_norm/{name}" for name in RATES} <= last.keys()
    assert last["peak_memory_bytes"] > 1e7
    assert last["tokens_per_second"] > 0
    found = re.search(r"gradient checkpointing in 0 of (\d+) layers, loss at once", caplog.text)
    assert found
    assert f"gradient checkpointing in {found[1]} of {found[1]} layers, loss in pieces of 8 tokens" in caplog.text
    assert caplog.text.count("optimizer adamw keeps 8.0 bytes for each parameter that trains") == 3
    assert caplog.text.count("is held against memory predict for a run on one GPU only") == 3


@pytest.mark.parametrize(
    ("freeze", "may_be_unused"),
    [("projection", False), ("language", False), ("vision", True), (["vae_encoder"], True)],
)
def test_unused_parameters_are_looked_for_where_there_may_be_some(
    values: dict[str, Any], freeze: Any, may_be_unused: bool
) -> None:
    """A batch without pictures leaves the vision tower out, and a clip of one frame a part of the VAE."""
    config = make(values, stages=[stage(freeze=freeze)])
    assert training_arguments(config, 0).ddp_find_unused_parameters is may_be_unused


def _load(folder: Path) -> Any:
    from theworld import TheWorld

    return TheWorld.from_pretrained(folder, dtype=torch.float32)


def test_norms_by_component_make_the_whole_norm(values: dict[str, Any]) -> None:
    config = make(values, stages=[stage(freeze="language", learning_rate=RATES, steps=2, max_grad_norm=None)])
    run(config)
    for entry in history(config):
        parts = [value for name, value in entry.items() if name.startswith("grad_norm/")]
        assert len(parts) == 3
        assert entry["grad_norm"] == pytest.approx(sum(value**2 for value in parts) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "mixed"])
def test_the_precision_is_the_one_that_was_asked(values: dict[str, Any], precision: str) -> None:
    config = make(values, stages=[stage(steps=1, precision=precision)])
    run(config)
    kept = load_file(files.checkpoints(stage_folder(config, 0))[-1] / files.WEIGHTS)
    asked = torch.float32 if precision == "mixed" else torch.bfloat16
    assert {tensor.dtype for tensor in kept.values()} == {asked}
    assert {tensor.dtype for tensor in exported(config).values()} == {torch.bfloat16}


def test_float32_weights_pass_from_one_mixed_stage_to_the_next(values: dict[str, Any]) -> None:
    """The export between them is bfloat16; a second stage that hardly moves ends where the first one did."""
    still = stage("second", steps=1, precision="mixed", learning_rate=1e-30)
    config = make(values, stages=[stage(steps=1, precision="mixed"), still])
    run(config)
    first, second = (load_file(files.checkpoints(stage_folder(config, i))[-1] / files.WEIGHTS) for i in (0, 1))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in first.values())


def test_the_model_of_a_stage_is_gone_when_the_next_one_loads_its_own(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a GPU holds two; Accelerate's mixed precision leaves a model that only the collector can free."""
    load, models, left = stages_module.load_model, [], []

    def load_and_look(config: Any, number: int) -> Any:
        left.append([number for number, model in models if model() is not None])
        model = load(config, number)
        models.append((number, weakref.ref(model)))
        return model

    monkeypatch.setattr(stages_module, "load_model", load_and_look)
    run(make(values, stages=[stage(steps=1, precision="mixed"), stage("second", steps=1, precision="mixed")]))
    first_of_second = [number for number, _ in models].index(1)
    assert left[first_of_second] == []


def test_a_trainable_only_export_is_small_and_loads(values: dict[str, Any]) -> None:
    config = make(values, save="trainable", stages=[stage(steps=1), stage("second", steps=1)])
    run(config)
    folder = stage_folder(config, 1) / EXPORT
    assert not (folder / "model.safetensors").exists()
    loaded = dict(_load(folder).named_parameters())
    for name, tensor in load_file(files.checkpoints(stage_folder(config, 1))[-1] / files.WEIGHTS).items():
        assert torch.equal(loaded[name], tensor)


# Ends


def test_a_loss_that_is_no_number_saves_the_batch_and_ends_the_run(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compute = Trainer.compute_loss

    def spoilt(self: Any, *arguments: Any, **kwargs: Any) -> Any:
        loss = compute(self, *arguments, **kwargs)
        return loss * float("nan") if self.state.global_step == 3 else loss

    monkeypatch.setattr(Trainer, "compute_loss", spoilt)
    values |= {"save_every_steps": 2}
    assert _answer(write_config(tmp_path / "config.json", values), resume=True, dry=False) == 1
    folder = stage_folder(make(values), 0)
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"stage projection, step 4: the loss is nan; the batch is saved in \S+", last)
    batch = load_file(last.split()[-1])
    assert {"0.input_ids", "0.labels", "0.attention_mask"} <= batch.keys()
    assert [path.name for path in files.checkpoints(folder)] == ["checkpoint-00000002"]
    monkeypatch.setattr(Trainer, "compute_loss", compute)
    assert _answer(tmp_path / "config.json", resume=True, dry=False) == 0


def test_a_gradient_that_is_no_number_ends_the_run(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Trainer._clip_grad_norm

    def spoilt(self: Any, model: Any) -> Any:
        next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("inf"))
        return clip(self, model)

    monkeypatch.setattr(Trainer, "_clip_grad_norm", spoilt)
    with pytest.raises(NonFiniteError, match="the gradient's norm is"):
        run(make(values))


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = safetensors.torch.save_file

    def full(tensors: Any, path: Path, **kwargs: Any) -> None:
        if "00000004" in str(path):
            raise safetensors.SafetensorError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            )
        write(tensors, path, **kwargs)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    values |= {"save_every_steps": 2}
    assert _answer(write_config(tmp_path / "config.json", values), resume=True, dry=False) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in last
    assert [path.name for path in files.checkpoints(stage_folder(make(values), 0))] == ["checkpoint-00000002"]


@pytest.mark.parametrize(("place", "code"), [(0, 2), (-1, 1)], ids=["before the first step", "in the last one"])
def test_too_many_broken_samples_end_the_run(
    values: dict[str, Any], tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], place: int, code: int
) -> None:
    lines = data.read_text().splitlines()
    lines.insert(list(SeededOrder(len(lines) + 1, 0))[place], "{")
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join(lines))
    values |= {"data": {"path": str(broken), "files": str(data.parent), "max_broken_samples": 0}}
    values |= {"stages": [stage(steps=7)]}
    assert _answer(write_config(tmp_path / "config.json", values), resume=True, dry=False) == code
    assert "data.max_broken_samples is 0" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("dry", [True, False])
def test_samples_of_which_none_is_whole_are_unusable_input_in_one_line(
    values: dict[str, Any], tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str], dry: bool,
) -> None:  # fmt: skip
    broken = tmp_path / "broken.jsonl"
    broken.write_text(
        '{"messages": [\n  {}]}\n' + json.dumps(question({"type": "world", "path": "no.npy"}, answer="a"))
    )
    values |= {"data": {"path": str(broken), "files": str(data.parent)}}
    assert _answer(write_config(tmp_path / "config.json", values), resume=True, dry=dry) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"^no sample is whole; the first: .*broken\.jsonl sample [012]: ", last)
    assert "skipped" not in caplog.text
    if dry:
        assert "a conversation is one line of JSON" in last


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"output_dir": "/proc/nothing"}, "/proc/nothing: cannot be written"),
        ({"model": "/nowhere"}, "/nowhere"),
        ({"data": {"path": "/nowhere.jsonl"}}, "data.path: /nowhere.jsonl: missing; check the path"),
        ({"cosmos": None}, "a Gemma 3 checkpoint has no world branch|nothing trains"),
        ({"stages": [stage(optimizer="adamw_8bit")]}, "needs the package bitsandbytes"),
        ({"latents_cache": __file__}, r"test_trainer.py: cannot be written: .* latents_cache names it"),
        ({"logging": ["wandbb"]}, "^logging: wandbb is none of .*did you mean wandb"),
        ({"logging": ["wandb"]}, "^logging: wandb: a package that is not there; or leave it out"),
        ({"attention": "flash_attention_2"}, "^attention: FlashAttention2 has been toggled on"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    values: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fields: Any,
    said: str,
) -> None:
    def missing() -> None:
        raise RuntimeError("a package that is not there")

    monkeypatch.setitem(stages_module.INTEGRATION_TO_CALLBACK, "wandb", missing)
    values |= {**fields, "world": {}} if "cosmos" in fields else fields
    assert _answer(write_config(tmp_path / "config.json", values), resume=True, dry=False) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "tensorboard is not" not in line]
    assert re.search(said, lines[-1])
    assert len(lines) == 1
    assert not Path(values["output_dir"]).exists()


def test_a_dry_run_says_what_would_be_done(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _answer(write_config(tmp_path / "config.json", values), resume=True, dry=True) == 0
    printed = capsys.readouterr().out
    assert "12 samples; of the first 12 each has " in printed
    assert "parameters train (" in printed
    assert "memory: not predicted for float32; set `precision: mixed` or `bfloat16`" in printed
    assert "4 steps, float32: world_projection at 0.001, temporal_embedding at 0.001" in printed
    assert not Path(values["output_dir"]).exists()


def test_an_interrupt_is_one_line_and_130(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages_module, "load_model", interrupted)
    assert _answer(write_config(tmp_path / "config.json", values), resume=True, dry=False) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted; the same command continues")


def test_two_runs_have_the_same_bits(values: dict[str, Any], tmp_path: Path) -> None:
    one, two, other = (
        make(values, output_dir=str(tmp_path / name), seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    for config in (one, two, other):
        run(config)
    assert all(torch.equal(tensor, exported(two)[name]) for name, tensor in exported(one).items())
    assert any(not torch.equal(tensor, exported(other)[name]) for name, tensor in exported(one).items())


def test_no_pickle_is_written_or_read(values: dict[str, Any]) -> None:
    config = make(values, save_every_steps=2)
    run(config)
    names = [Path(folder, name) for folder, _, found in os.walk(config.output_dir) for name in found]
    assert {path.suffix for path in names} <= {".safetensors", ".json", ".jinja"}
    shutil.rmtree(config.output_dir)
