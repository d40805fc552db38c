"""Training with what the test set does not install: TensorBoard, datasets, bitsandbytes: `nox -s ecosystem`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.theworld.training.conftest import data, make, stage, values  # noqa: F401 - fixtures
from tests.theworld.training.test_trainer import exported, history
from theworld.training import checkpoint as files
from theworld.training.config import ConfigError
from theworld.training.data import open_rows
from theworld.training.run import run
from theworld.training.stages import stage_folder

pytestmark = pytest.mark.filterwarnings("default")  # these libraries' own warnings are theirs
COMPONENTS = ("world_projection", "temporal_embedding")


def test_tensorboard_is_the_default_and_has_what_is_logged(values: dict[str, Any]) -> None:  # noqa: F811
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = make(values, logging=None, stages=[stage(steps=2)])
    run(config)
    (folder,) = {path.parent for path in stage_folder(config, 0).rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    names = ["loss", "grad_norm", "tokens_per_second", "clips_per_second", "peak_memory_bytes"]
    names += [f"{what}/{component}" for what in ("grad_norm", "learning_rate") for component in COMPONENTS]
    for name in names:
        found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert found == [(entry["step"], pytest.approx(entry[name], rel=1e-6)) for entry in history(config)]
        assert len(found) == 2


def _as_items(message: dict[str, Any]) -> dict[str, Any]:
    """A column has one type: content is always a list there."""
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}


def test_a_folder_of_datasets_trains_as_the_lines_do(
    values: dict[str, Any], data: Path, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    import pyarrow
    from datasets import Dataset, DatasetDict

    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows = [{"messages": [_as_items(message) for message in row["messages"]]} for row in rows]
    # With a fingerprint of its own: datasets 5.2 cannot hash a table of pyarrow 26.
    table = Dataset(pyarrow.Table.from_pylist(rows), fingerprint="rows")
    table.save_to_disk(tmp_path / "rows")
    lines, folder = (
        make(values, stages=[stage(steps=3)], data={"path": str(path), "files": str(data.parent)}, output_dir=out)
        for path, out in ((data, str(tmp_path / "lines")), (tmp_path / "rows", str(tmp_path / "folder")))
    )
    run(lines)
    run(folder)
    assert [entry["loss"] for entry in history(folder)] == [entry["loss"] for entry in history(lines)]
    DatasetDict({"train": table}).save_to_disk(tmp_path / "splits")
    with pytest.raises(ConfigError, match=r"splits: holds splits; let data\.path name the folder of one: train"):
        open_rows(tmp_path / "splits")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match=r"nothing.*; data\.path names it"):
        open_rows(tmp_path / "nothing")


@pytest.mark.parametrize("fault", [False, True])
def test_an_8_bit_optimizer_resumes_to_the_bit(
    values: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
    fault: bool,
) -> None:  # fmt: skip
    """And with its state forgotten it ends elsewhere."""
    caplog.set_level("INFO", "theworld.training")
    stages = [stage(steps=4, freeze="language", optimizer="adamw_8bit")]
    whole, resumed = (
        make(values, stages=stages, save_every_steps=2, output_dir=str(tmp_path / name))
        for name in ("whole", "resumed")
    )
    run(whole)
    kept = re.search(r"optimizer adamw_8bit keeps (\d+\.\d) bytes", caplog.text)
    assert kept
    assert 2 <= float(kept[1]) < 4  # adamw keeps 8; embeddings and small tensors stay in 32 bits
    middle = stage_folder(whole, 0) / "checkpoint-00000002"
    assert torch.uint8 in {tensor.dtype for tensor in load_file(middle / files.OPTIMIZER).values()}
    shutil.copytree(middle, stage_folder(resumed, 0) / middle.name)
    if fault:
        monkeypatch.setattr(files, "load_optimizer", lambda *_: None)
    run(resumed)
    same = all(torch.equal(tensor, exported(resumed)[name]) for name, tensor in exported(whole).items())
    assert same is not fault
