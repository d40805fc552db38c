"""A stage's memory is what the harness's own command predicts, or a reason why it is not predicted."""

import json
import re
import subprocess
import types
from pathlib import Path
from typing import Any

import pytest

from tests.theworld.training.conftest import make, stage
from theworld.training import memory
from theworld.training.memory import Prediction, compare, predict

NUM_TOKENS = 1 + 40 + (16 + 2) + (16 + 2)  # a beginning, text, a picture and a clip with their marks


def sentence(values: dict[str, Any], **fields: Any) -> str:
    config = make(values, stages=[stage(**{"precision": "bfloat16", **fields})])
    branch = types.SimpleNamespace(tokens_per_step=lambda: 16)
    sizes = types.SimpleNamespace(world_config=branch, mm_tokens_per_image=16)
    return predict(config, config.stages[0], sizes, NUM_TOKENS).sentence


def test_the_sentence_has_the_figure_of_the_command(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    start = subprocess.run

    def kept(*arguments: Any, **options: Any) -> Any:
        ended.append(start(*arguments, **options))
        return ended[-1]

    monkeypatch.setattr(subprocess, "run", kept)
    said = sentence(values)
    cell = json.loads(ended[0].stdout)["checks"][0]["measurements"]["cells"][0]
    workload = cell["configuration"], cell["batch"], cell["world_tokens"], cell["text_tokens"]
    assert workload == ("projection", 2, 16, 40)
    found = re.fullmatch(r"memory: about (\d+\.\d\d) GB allocated at the peak, .* for 2 x \(40 tokens .*", said)
    assert found
    assert float(found[1]) == round(cell["peak_allocated_bytes"] / 1e9, 2) > 0


def run_of(values: dict[str, Any], lengths: list[int], **fields: Any) -> str | None:
    config = make(values, stages=[stage(precision="bfloat16", **fields)])
    branch = types.SimpleNamespace(tokens_per_step=lambda: 16)
    sizes = types.SimpleNamespace(world_config=branch, mm_tokens_per_image=16)
    return memory.predict_run(config, config.stages[0], sizes, [NUM_TOKENS + length - 40 for length in lengths])


def test_steps_of_different_length_are_a_run(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two: 40, 60 and 50 tokens of text, each the longer of its rows; the file has them in this order."""
    asked: list[Any] = []

    def answer(command: list[str], **_: Any) -> Any:
        asked.append((command, Path(command[command.index("--lengths") + 1]).read_text()))
        row = {"peak_allocated_bytes": 1, "peak_reserved_bytes": 3_210_000_000, "least_bytes": 2_340_000_000}
        report = {"checks": [{"measurements": {"runs": [row]}}]}
        return types.SimpleNamespace(stdout=json.dumps(report))

    monkeypatch.setattr(subprocess, "run", answer)
    said = run_of(values, [40, 30, 20, 60, 50])
    ((command, lengths),) = asked
    assert lengths == "40\n60\n50\n"
    assert command[command.index("--batch") + 1] == "2"
    assert said is not None
    assert "of 40 to 60 tokens of text reserve about 3.21 GB, and complete in 2.34 GB" in said
    assert run_of(values, [40, 30, 20, 40]) is None
    assert run_of(values, [40, 60, 50], optimizer="adamw_torchao_8bit") is None
    assert len(asked) == 1


def test_a_run_is_what_the_command_says(values: dict[str, Any]) -> None:
    said = run_of(values, [40, 30, 20, 60, 50])
    assert said is not None
    assert re.search(r"steps of 40 to 60 tokens of text reserve about 0\.\d\d GB, and complete in 0\.\d\d GB", said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"freeze": ["world_projection", "temporal_embedding"]},
            "not predicted for a list of components; it is for presets",
        ),
        ({"precision": "float32"}, "not predicted for float32; set `precision: mixed` or `bfloat16`"),
        ({"optimizer": "adamw_torchao_8bit"}, "not predicted for this frame size or optimizer"),
    ],
)
def test_what_is_not_predicted_says_why(values: dict[str, Any], fields: dict[str, Any], said: str) -> None:
    assert said in sentence(values, **fields)


def test_without_the_harness_it_says_so(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "HARNESS", "a_package_that_is_not_there")
    assert sentence(values) == "memory: not predicted, since theworld-validate is not installed"


def test_a_prediction_that_fails_names_the_command(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "HARNESS", "json")  # a package without this command
    assert re.match(r"memory: the prediction failed \(JSONDecodeError\); run: -m json memory predict", sentence(values))


@pytest.mark.parametrize(
    ("measured", "predicted", "level", "said"),
    [
        (1_019_000_000, 10**9, "INFO", "1.02 GB allocated at the peak, +1.90% of what was predicted; memory: so"),
        (
            1_021_000_000,
            10**9,
            "WARNING",
            "1.02 GB allocated at the peak, +2.10% of what was predicted; memory: so",
        ),
        (979_000_000, 10**9, "WARNING", "0.98 GB allocated at the peak, -2.10% of what was predicted; memory: so"),
        (979_000_000, None, "INFO", "0.98 GB allocated at the peak; memory: so"),
    ],
)
def test_a_peak_that_was_not_predicted_is_a_warning(
    values: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    measured: int,
    predicted: int | None,
    level: str,
    said: str,
) -> None:
    caplog.set_level("INFO", "theworld.training")
    compare(make(values).stages[0], measured, Prediction(sentence="memory: so", peak_bytes=predicted))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (level, f"stage projection: {said}")
    ]
