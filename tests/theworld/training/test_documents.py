"""What the documents on training show is run: configs, commands, the table of keys."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from typer.testing import CliRunner

from tests.conftest import FRAME_SIZE
from tests.theworld_validate.command_line import invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld.training.__main__ import app
from theworld.training.config import DataConfig, StageConfig, TrainingConfig

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {
    name: (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for name in ("training", "tutorials/train-in-stages", "distributed")
}


def commands(page: str, program: str) -> list[str]:
    return re.findall(rf"^    ({program} .*)$", PAGES[page], re.MULTILINE)


def put_here(page: str, tiny: SyntheticCheckpoint, folder: Path) -> None:
    """Write the page's config and the sample that training.md shows, made short and tiny."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL)
    values: Any = yaml.safe_load(text)
    TrainingConfig.model_validate(values)
    values |= {"model": str(tiny.gemma), "cosmos": str(tiny.cosmos), "world": {"frame_size": FRAME_SIZE}}
    for stage in values["stages"]:
        stage.update({"precision": "float32"} | ({"steps": 2} if "steps" in stage else {"epochs": 2}))
    name = {"training": "train.yaml", "tutorials/train-in-stages": "stages.yaml"}[page]
    (folder / name).write_text(yaml.safe_dump(values))
    (sample,) = re.findall(r"```json\n(.*?)```", PAGES["training"], re.DOTALL)
    (folder / "samples.jsonl").write_text(json.dumps(json.loads(sample)) + "\n")
    np.save(folder / "clip.npy", np.random.default_rng(0).uniform(-1, 1, (3, 5, 32, 32)).astype(np.float32))


@pytest.mark.parametrize("page", ["training", "tutorials/train-in-stages"])
def test_the_commands_that_are_shown_train(
    page: str, tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put_here(page, tiny, tmp_path)
    shown = commands(page, "theworld-train")
    assert len(shown) == {"training": 2, "tutorials/train-in-stages": 1}[page]
    for command in shown:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
    assert all(stage["finished"] for stage in json.loads(Path("out/run.json").read_text())["stages"])
    checked = commands(page, "theworld-validate") if page == "tutorials/train-in-stages" else []
    for command in checked:
        few = ("--dtype", "float32", "--probe", "text") if "parity" in command else ()
        result = invoke(*shlex.split(command)[1:], *few)
        assert result.exit_code == 0, f"{command}: {result.output}"
    assert len(checked) == (2 if page == "tutorials/train-in-stages" else 0)


def test_the_launcher_trains_on_two_processes(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_here("training", tiny, tmp_path)
    _, sharded = commands("distributed", "accelerate launch")
    here = [sys.executable, "-m", "accelerate.commands.launch"]
    ended = subprocess.run(
        [*here, *shlex.split(sharded)[2:]], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "stage projection: sharded over 2 processes" in ended.stderr
    assert (tmp_path / "out/stage-1-projection/checkpoint-00000002/random-1.safetensors").is_file()


def test_the_launcher_is_asked_for_two_processes_without_a_gpu_too() -> None:
    first, _ = commands("distributed", "accelerate launch")
    asked = launch_command_parser().parse_args(shlex.split(first)[2:])
    assert asked.num_processes == 2
    assert asked.multi_gpu  # without it, one process is started where there is no GPU


def test_weights_without_values_are_refused(
    tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_here("training", tiny, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    result = CliRunner().invoke(app, ["train.yaml"])
    assert result.exit_code == 2
    assert "FSDP's first version does not train in stages; launch with --fsdp_version 2" in result.stderr
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    result = CliRunner().invoke(app, ["train.yaml"])
    assert result.exit_code == 2
    assert "launch with --fsdp_cpu_ram_efficient_loading false" in result.stderr


def test_every_key_is_in_the_tables() -> None:
    rows = "\n".join(line for line in PAGES["training"].splitlines() if line.startswith("| `"))
    shown = set(re.findall(r"`([a-z_]+)`", rows))
    keys = {*TrainingConfig.model_fields, *StageConfig.model_fields, *DataConfig.model_fields} - {"stages"}
    assert keys <= shown


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from theworld.training.__main__ import app; "
        "print(CliRunner().invoke(app, ['--help']).exit_code, sorted({'torch', 'transformers', 'pydantic', 'yaml', "
        "'numpy'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "0 []"
