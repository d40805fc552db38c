"""Releases from start to end, without network: prepared environments with one planted change each."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.command_line import invoke
from tests.theworld_validate.releases.fake_releases import (
    CHANGED,
    DEAD,
    LOST,
    PLAIN,
    ROUNDED,
    SILENTLY_RANDOM,
    prepare_release,
)
from theworld_validate.subjects.tiny_models import write_tiny

RELEASES = {
    "1.0.0": PLAIN,
    "1.0.1": PLAIN,
    "1.0.2": ROUNDED,
    "1.1.0": CHANGED,
    "1.2.0": LOST,
    "1.3.0": SILENTLY_RANDOM,
    "1.4.0": DEAD,
}


@pytest.fixture(scope="module")
def compared(_quiet_and_own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """All of them compared once: the folder, the report and the command's result."""
    folder = tmp_path_factory.mktemp("releases")
    model = write_tiny("LlamaForCausalLM", folder / "model")
    for version, change in RELEASES.items():
        # One that has what the server of processes has imported is observed by a Python of its own.
        prepare_release(folder / "environments", version, change, holds="numpy" if version == "1.0.0" else None)
    result = invoke(
        "releases", "--versions", ",".join(RELEASES), "--model", model, "--dtype", "float32",
        "--environments", folder / "environments", "--output", folder / "report", "--lock", folder / "lock.txt",
        "--json",
    )  # fmt: skip
    return folder, json.loads(result.stdout), result


def _check(report: Any, name: str) -> Any:
    return next(check for check in report["checks"] if check["id"] == f"releases.{name}")


def test_equal_releases_pass_and_the_verdict_is_failed_by_the_others(compared: tuple[Path, Any, Any]) -> None:
    _, report, result = compared
    assert result.exit_code == 1, result.output
    assert _check(report, "1.0.0")["status"] == "passed"
    assert _check(report, "1.0.1")["reason"] == "equal to 1.0.0"
    assert _check(report, "1.0.1")["status"] == "passed"
    assert _check(report, "1.0.1")["measurements"]["tensors_compared"] > 20


def test_a_changed_result_names_its_first_module(compared: tuple[Path, Any, Any]) -> None:
    check = _check(compared[1], "1.1.0")
    assert check["status"] == "failed"
    assert check["reason"] == "changed since 1.0.2, first at text/model.layers.0.mlp"
    assert check["findings"][0]["field"] == "ratio"
    assert check["findings"][0]["cause"].startswith("kernel choice or code: ")


def test_a_sum_in_another_order_is_equivalent_with_its_worst_place(compared: tuple[Path, Any, Any]) -> None:
    check = _check(compared[1], "1.0.2")
    assert check["status"] == "passed"
    assert check["reason"].startswith("equivalent to 1.0.1: the worst place is ")
    assert 0 < check["measurements"]["worst_ratio"] < check["measurements"]["bound"]
    assert check["measurements"]["worst_place"] in check["reason"]


def test_lost_keys_are_unsafe_and_counted(compared: tuple[Path, Any, Any]) -> None:
    check = _check(compared[1], "1.2.0")
    assert check["reason"] == "unsafe after 1.1.0"
    finding = next(f for f in check["findings"] if f["code"] == "releases.missing")
    assert finding["message"] == (
        "1.2.0 loads the checkpoint with 1 of 23 tensors missing, and 1 keys unread: model.norm.weight"
    )


def test_a_random_weight_is_found_though_the_library_does_not_say_so(compared: tuple[Path, Any, Any]) -> None:
    check = _check(compared[1], "1.3.0")
    assert check["reason"] == "unsafe after 1.2.0"
    finding = next(f for f in check["findings"] if f["code"] == "releases.drawn_anew")
    assert finding["location"] == "model.norm.weight"


def test_a_release_that_exits_with_0_has_failed(compared: tuple[Path, Any, Any]) -> None:
    check = _check(compared[1], "1.4.0")
    assert check["status"] == "failed"
    assert check["reason"] == "it failed"
    assert "exited with code 0 before it had answered; it said last: no such symbol" in check["findings"][0]["message"]


def test_files_that_a_release_cannot_read_are_a_cell_of_the_table(compared: tuple[Path, Any, Any]) -> None:
    rows = {row["saved_by"]: row for row in _check(compared[1], "files")["measurements"]["files"]}
    assert rows["1.0.0"]["read_by_1.0.1"] == "whole"
    assert rows["1.0.0"]["read_by_1.2.0"] == "1 lost"
    assert rows["1.0.0"]["read_by_1.0.0"] == "itself"


def test_the_lock_holds_the_newest_that_agrees_with_the_first(compared: tuple[Path, Any, Any]) -> None:
    lines = (compared[0] / "lock.txt").read_text(encoding="utf-8").splitlines()
    assert "transformers==1.0.2" in lines
    assert any(line.startswith("torch==") and "+" not in line for line in lines)


def test_the_figure_has_a_square_a_release_and_a_probe(compared: tuple[Path, Any, Any]) -> None:
    folder, report, _ = compared
    assert "releases.table.grid.svg" in report["files"]
    drawn = (folder / "report" / "releases.table.grid.svg").read_text(encoding="utf-8")
    for verdict in ("equal", "equivalent", "changed", "unsafe", "failed"):
        assert f">{verdict}<" in drawn
    assert ">loading<" in drawn
    grid = {row["release"]: row for row in _check(report, "table")["measurements"]["grid"]}
    assert [row["loading"] for row in grid.values()] == [
        "first", "equal", "equal", "equal", "unsafe", "unsafe", "failed"
    ]  # fmt: skip
    assert (grid["1.0.1"]["text"], grid["1.1.0"]["text"], grid["1.4.0"]["text"]) == ("equal", "changed", "failed")
