"""Empty models: what a config describes, or one line that says why it describes none."""

import json
from pathlib import Path

import pytest
import torch

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.results import InputError
from theworld_validate.subjects.empty_models import (
    blueprint_of_checkpoint,
    blueprint_of_file,
    blueprint_of_size,
    build_on_meta,
    build_without_data,
)


def test_a_config_becomes_a_model_without_memory(tiny: SyntheticCheckpoint) -> None:
    for config in (
        blueprint_of_size("tiny"),
        blueprint_of_file(tiny.gemma / "config.json"),
        blueprint_of_checkpoint(str(tiny.gemma), str(tiny.cosmos)),
    ):
        model = build_on_meta(config)
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        assert model.enable_world
    _, model = build_without_data(blueprint_of_size("tiny"), dtype="float32")
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("text_config", "num_hidden_layers", 10**6),
        ("text_config", "hidden_size", 0),
        ("text_config", "hidden_activation", "nope"),
        ("vision_config", "patch_size", 0),
        (None, "model_type", "llama"),
        (None, "image_token_index", None),
    ],
)
def test_a_config_that_describes_no_model_is_said_in_one_line(
    tiny: SyntheticCheckpoint, tmp_path: Path, part: str | None, field: str, value: object
) -> None:
    values = json.loads((tiny.gemma / "config.json").read_text(encoding="utf-8"))
    (values if part is None else values[part])[field] = value
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match=f"^--config {path}: .*{field} is ") as caught:
        blueprint_of_file(path)
    assert str(caught.value).count(str(tmp_path)) == 1


def test_a_size_or_file_that_is_not_there() -> None:
    with pytest.raises(InputError, match="--config 9b: no such size or file"):
        blueprint_of_size("9b")
    for path in (Path("/dev/zero"), Path("no-such-file.json")):
        with pytest.raises(InputError, match=f"^--config {path}: "):
            blueprint_of_file(path)
    with pytest.raises(InputError, match="no freeze preset is named"):
        build_on_meta(blueprint_of_size("tiny"), freeze="no-such-preset")
