"""A config that cannot be used says where and why, in one line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from theworld.freezing import PRESETS
from theworld.training import config as config_module
from theworld.training.config import ConfigError, read_config
from theworld.training.data import open_rows

GOOD = """
model: gemma
data: {path: samples.jsonl}
output_dir: out
stages:
  - {name: first, steps: 10, learning_rate: 1e-4}
  - {name: second, epochs: 2, freeze: vision, learning_rate: {vision_tower: 1e-5, multi_modal_projector: 1e-4,
     world_projection: 1e-3, temporal_embedding: 0.001}}
"""

_BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)).replace("*a0", "x")
_ROLLOUT = "rollout: {num_world_steps: 1, prompt: a, safety_checker: none"


def test_a_good_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    config = read_config(path)
    assert config.stages[0].learning_rate == 1e-4
    assert config.stages[0].rate_of("world_projection") == 1e-4
    assert config.stages[1].rate_of("vision_tower") == 1e-5
    assert config.stages[1].freeze_config == PRESETS["vision"]
    as_json = tmp_path / "config.json"
    as_json.write_text(config.model_dump_json())
    assert read_config(as_json) == config


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps: 10", "steps: 10, use_gradient_checkpointing: true", "stages.0.use_gradient_checkpointing: there is no "
         "such key; the key is gradient_checkpointing, in a stage"),
        ("steps: 10", "steps: 10, warmup: 3", "stages.0.warmup: there is no such key; did you mean warmup_steps?"),
        ("data: {path", "data: {pth", "data.pth: there is no such key; did you mean path?"),
        ("output_dir", "output", "output: there is no such key; did you mean output_dir?"),
        ("steps: 10, ", "", "stages.0: give either steps or epochs"),
        ("steps: 10", "steps: 10, epochs: 1", "stages.0: give either steps or epochs"),
        ("steps: 10", "steps: 0", "stages.0.steps: Input should be greater than or equal to 1, got 0"),
        ("steps: 10", "steps: true", "stages.0.steps: Input should be a valid integer, got True"),
        ("1e-4}", "fast}", "stages.0.learning_rate: Input should be a valid number, got 'fast'"),
        ("1e-4}", ".inf}", "stages.0.learning_rate: Input should be less than or equal to 1000000000, got inf"),
        ("steps: 10", "steps: 10, freeze: visoin", "did you mean vision?"),
        ("steps: 10", "steps: 10, freeze: [vision_towr]", "did you mean vision_tower?"),
        ("vision_tower: 1e-5, ", "", "stages.1: learning_rate has none for vision_tower, which trains in this stage"),
        ("vision_tower: 1e-5", "language_model: 1, vision_tower: 1e-5", "learning_rate.language_model is frozen"),
        ("name: second", "name: first", "stages: two stages have one name"),
        ("name: second", "name: a/b", "stages.1.name: String should match pattern"),
        ("output_dir: out", "output_dir: out\noutput_dir: in", "cannot be read: key output_dir appears twice"),
        ("steps: 10", "steps: 10, steps: 20", "cannot be read: key steps appears twice"),
        (GOOD, "- 1", "holds no mapping"),
        (GOOD, "a: [", "cannot be read"),
        ("steps: 10", "steps: !!bool x", "line 6: the tag tag:yaml.org,2002:bool is not read; write the value without"),
        ("steps: 10", 'steps: !!int ""', "the tag tag:yaml.org,2002:int is not read"),
        ("steps: 10", "steps: !!timestamp x", "the tag tag:yaml.org,2002:timestamp is not read"),
        (GOOD, "a: " + "[" * 100, "line 1: nested deeper than 64 levels"),
        (GOOD, "a: &a [*a]", "the alias a stands within what it names"),
        (GOOD, _BOMB, "more than 10,000 values"),
        (GOOD, "".join(f"k{i}: 1\n" for i in range(20_000)), "more than 10,000 values"),
        ("steps: 10", f"steps: {'9' * 5000}", "line 6: a number of more than 100 characters"),
        ("steps: 10", f"steps: {2**31}", "stages.0.steps: Input should be less than or equal to 2147483647, got 21474"),
        ("steps: 10", f"steps: 10, batch_size: {2**31}", "stages.0.batch_size: Input should be less than or equal to"),
        ("steps: 10", f"steps: 10, warmup_steps: {2**31}", "stages.0.warmup_steps: Input should be less than or"),
        ("epochs: 2", "epochs: 1e300", "stages.1.epochs: Input should be less than or equal to 1000000000"),
        ("output_dir: out", f"output_dir: out\nseed: {2**32}", "seed: Input should be less than or equal to 429"),
        ("1e-4}", "1e300}", "stages.0.learning_rate: Input should be less than or equal to 1000000000, got '1e300'"),
        ("steps: 10", "steps: 10, weight_decay: true", "weight_decay: Input should be a valid number, got True"),
        ("output_dir: out", f"output_dir: out\n{_ROLLOUT}, guidance_scale: true}}", "rollout.guidance_scale: Input"),
        ("output_dir: out", f"output_dir: out\n{_ROLLOUT}, fps: 1001}}", "rollout: RolloutConfig.fps must be a"),
        ("output_dir: out", "output_dir: ''", "output_dir: empty; name one"),
        ("output_dir: out", 'output_dir: "a\\0b"', "output_dir: holds a null character; give another"),
        ("output_dir: out", 'output_dir: out\n"\\e[31mred\\n": 1', r"\x1b[31mred\n: there is no such key"),
        (GOOD, "!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)  # fmt: skip
def test_a_bad_config_says_where_and_why(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message
    assert "\x1b" not in message


def test_what_many_stages_share_may_be_written_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        GOOD.replace("{name: first, steps: 10,", "&all {name: first, steps: 10,") + "  - {<<: *all, name: c}"
    )
    stages = read_config(path).stages
    assert stages[2] == stages[0].model_copy(update={"name": "c"})


def test_a_config_in_a_folder_that_was_deleted_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="the working directory was deleted"):
        read_config(Path("config.yaml"))


def test_a_config_is_refused_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    code = (
        "import sys; from pathlib import Path; from theworld.training.config import read_config; "
        "read_config(Path(sys.argv[1])); print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code, str(path)], text=True).strip() == "[]"


def test_a_json_config_has_no_key_twice_and_none_is_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model": "a", "model": "b"}')
    with pytest.raises(ConfigError, match="cannot be read: key model appears twice"):
        read_config(path)
    monkeypatch.setattr(config_module, "MAX_CONFIG_BYTES", 10)
    with pytest.raises(ConfigError, match="28 bytes, and at most 10 are read"):
        read_config(path)


def test_a_config_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing; check the path"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("read", [read_config, open_rows])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "config.yaml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a regular file"):
        read(path)


def test_a_config_is_frozen(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    config: Any = read_config(path)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 2
