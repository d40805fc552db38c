"""TheWorld with libraries that the test set does not install, TRL, bitsandbytes and torchao: `nox -s ecosystem`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import load_world, make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint

pytestmark = pytest.mark.filterwarnings("default")  # these libraries' own warnings are theirs


def world_classes(model: TheWorld) -> set[str]:
    return {type(p).__name__ for name, p in model.named_parameters() if "world_" in name or "temporal_" in name}


def language_class(model: TheWorld) -> str:
    return type(model.model.language_model.layers[0].mlp.up_proj.weight).__name__


def quantised(kind: str) -> Any:
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if kind == "torchao int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    return BitsAndBytesConfig(load_in_8bit=kind.endswith("8"), load_in_4bit=kind.endswith("4"))


@pytest.mark.parametrize("from_where", ["fresh", "saved"])
@pytest.mark.parametrize("kind", ["bitsandbytes 8", "bitsandbytes 4", "torchao int8"])
def test_a_quantised_model_keeps_its_branch(
    tiny: SyntheticCheckpoint, processor: TheWorldProcessor, tmp_path: Path, kind: str, from_where: str
) -> None:
    if from_where == "fresh":
        model = load_world(tiny, quantization_config=quantised(kind))
    else:
        load_world(tiny).save_pretrained(tmp_path)
        model = TheWorld.from_pretrained(tmp_path, quantization_config=quantised(kind))
    assert world_classes(model) == {"Parameter"}
    assert language_class(model) in ("Int8Params", "Params4bit", "Int8Tensor")
    assert {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad} == {
        "world_projection",
        "temporal_embedding",
    }
    inputs = processor(text="<start_of_world>hello", world_frames=make_clip(), return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    assert torch.isfinite(logits).all()
    if kind.startswith("bitsandbytes"):
        model.save_pretrained(tmp_path / "quantised")
        loaded = TheWorld.from_pretrained(tmp_path / "quantised")
        assert world_classes(loaded) == {"Parameter"}
        with torch.no_grad():
            assert torch.equal(loaded(**inputs).logits, logits)


@pytest.mark.parametrize("named", [False, True], ids=["model", "folder"])
def test_trl_trains_the_projection_on_clips(
    tiny: SyntheticCheckpoint, processor: TheWorldProcessor, tmp_path: Path, named: bool
) -> None:
    import pyarrow
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        clips = [torch.tensor(row["frames"]) for row in rows]
        batch = processor(text=[row["text"] for row in rows], world_frames=clips, return_tensors="pt")
        return {**batch, "labels": batch["input_ids"].clone()}

    model = load_world(tiny)
    before = model.world_projection.linear.weight.detach().clone()
    given: Any = model
    if named:
        given = str(tmp_path / "saved")
        model.save_pretrained(given)
    rows = [{"text": "<start_of_world>hello", "frames": make_clip(seed=i).tolist()} for i in range(4)]
    # With a fingerprint of its own: datasets 5.2 cannot hash a table of pyarrow 26.
    table = Dataset(pyarrow.Table.from_pylist(rows), fingerprint="rows")
    settings: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2}
    settings |= {"remove_unused_columns": False, "dataset_kwargs": {"skip_prepare_dataset": True}, "bf16": False}
    arguments = SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to=[], save_strategy="no", **settings)
    trainer = SFTTrainer(
        model=given, args=arguments, train_dataset=table, data_collator=collate, processing_class=processor
    )
    trainer.train()
    trained: Any = trainer.model
    assert type(trained) is TheWorld
    assert not torch.equal(trained.world_projection.linear.weight, before)
