"""What the documents on training show is run: configs, commands, the table of keys."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from typer.testing import CliRunner

from tests.conftest import FRAME_SIZE
from tests.theworld_validate.command_line import invoke
from theworld.processing_theworld import TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint
from theworld.training.__main__ import app
from theworld.training.config import DataConfig, StageConfig, TrainingConfig
from theworld.training.data import Samples

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {
    name: (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for name in ("training", "tutorials/train-in-stages", "distributed")
}


def commands(page: str, program: str) -> list[str]:
    return re.findall(rf"^    ({program} .*)$", PAGES[page], re.MULTILINE)


def put_here(page: str, tiny: SyntheticCheckpoint, folder: Path) -> None:
    """Make what the page shows: its config, short and tiny; its sample as it stands; its clip and picture by its code.

    training.md refers to the tutorial for the clip and the picture.
    """
    (text,) = re.findall(r"```yaml.*?\n(.*?)```", PAGES[page], re.DOTALL)
    TrainingConfig.model_validate(yaml.safe_load(text))
    config = text.replace("google/gemma-3-4b-it", str(tiny.gemma))
    config = config.replace("nvidia/Cosmos-Predict2-2B-Video2World", str(tiny.cosmos))
    config = re.sub(r"steps: 1000$", "steps: 2", config, flags=re.MULTILINE)
    config = config.replace("epochs: 1\n", "epochs: 2\n").replace("precision: mixed", "precision: float32")
    (folder / "train.yaml").write_text(f"{config}world: {{frame_size: {FRAME_SIZE}}}\n", encoding="utf-8")
    (sample,) = re.findall(r'```json title="samples.jsonl"\n(.*?)```', PAGES[page], re.DOTALL)
    (folder / "samples.jsonl").write_text(sample, encoding="utf-8")
    code = commands("tutorials/train-in-stages", "python -c")
    assert len(code) == 2
    for command in code:
        subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=folder, check=True, timeout=60)


def test_the_clip_that_is_made_is_the_one_that_the_sample_tells_of(
    processor: TheWorldProcessor, tmp_path: Path, tiny: SyntheticCheckpoint
) -> None:
    put_here("tutorials/train-in-stages", tiny, tmp_path)
    data = DataConfig(path=str(tmp_path / "samples.jsonl"))
    samples = Samples(data, processor.to_frames)
    assert len(samples) == 1
    sample = samples[0]
    assert (len(sample.images), sample.messages[1]["content"][0]["text"]) == (1, "To the left.")
    (clip_CFHW,) = sample.clips
    bright = [frame_HW.mean(0).argmax().item() for frame_HW in clip_CFHW[0]]
    assert bright == sorted(bright, reverse=True)
    assert bright[0] > bright[-1]


@pytest.mark.parametrize("page", ["training", "tutorials/train-in-stages"])
def test_the_commands_that_are_shown_train(
    page: str, tiny: SyntheticCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    put_here(page, tiny, tmp_path)
    shown = commands(page, "theworld-train")
    assert len(shown) == {"training": 2, "tutorials/train-in-stages": 1}[page]
    for command in shown:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
    assert "skipped" not in caplog.text
    assert all(stage["finished"] for stage in json.loads(Path("out/run.json").read_text())["stages"])
    checked = commands(page, "theworld-validate") if page == "tutorials/train-in-stages" else []
    for command in checked:
        few = ("--dtype", "float32", "--probe", "text") if "parity" in command else ()
        result = invoke(*shlex.split(command)[1:], *few)
        assert result.exit_code == 0, f"{command}: {result.output}"
        assert "not one of its" not in result.output, "the sample trains all that its stage is to train"
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
