"""Drift: what a training changed is told by component, and a frozen component that moved is a failure."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import load_world
from tests.theworld_validate.command_line import invoke
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.audits.drift import _compare, _decide, check_drift
from theworld_validate.results import CheckResult, InputError, Status


def change(parameter: Any, by: float = 1.0) -> None:
    """Change one element."""
    with torch.no_grad():
        parameter.view(-1)[3] += by


@pytest.fixture
def base(tiny: SyntheticCheckpoint, tmp_path: Path) -> Path:
    """A saved model with a branch, whose stage trains the projection."""
    load_world(tiny, freeze="projection").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def trained(tiny: SyntheticCheckpoint, base: Path) -> Any:
    """The same model, with one element of its projection changed."""
    from theworld import TheWorld

    model = TheWorld.from_pretrained(base)
    change(model.world_projection.linear.weight, 0.5)
    return model


def rows_of(check: CheckResult) -> dict[str, Any]:
    rows: Any = check.measurements["components"]
    return {row["component"]: row for row in rows}


def test_only_what_was_to_train_changed(base: Path, trained: Any, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "trained")
    check = check_drift(str(base), str(tmp_path / "trained"))
    assert (check.status, [f.code for f in check.findings]) == (Status.PASSED, ["drift.nothing_moved"])
    row = rows_of(check)["world_projection"]
    assert (row["trained"], row["changed_elements"], row["changed_tensors"]) == (True, 1, 1)
    assert row["largest_change"] == pytest.approx(0.5, rel=1e-6)
    frozen = [row for row in rows_of(check).values() if not row["trained"]]
    assert sum(row["elements"] for row in frozen) > 100_000
    assert not any(row["changed_elements"] for row in frozen)
    assert not any(row["not_compared"] for row in rows_of(check).values())


@pytest.mark.parametrize(
    ("component", "path"),
    [
        ("language_model", "model.language_model.norm.weight"),
        ("vision_tower", "model.vision_tower.post_layernorm.bias"),
        ("vae_encoder", "model.world_encoder.vae.encoder.conv_in.bias"),
    ],
)
def test_a_frozen_component_that_moved_is_found(
    base: Path, trained: Any, tmp_path: Path, component: str, path: str
) -> None:
    change(trained.get_parameter(path), 1e-6)
    trained.save_pretrained(tmp_path / "trained")
    check = check_drift(str(base), str(tmp_path / "trained"))
    assert check.status is Status.FAILED
    (finding,) = [f for f in check.findings if f.severity == "error"]
    assert (finding.code, finding.location, finding.actual) == ("drift.frozen_moved", path, 1)
    assert finding.message.startswith(f"{path}: {component} was frozen, and 1 of its ")
    excused = check_drift(
        str(base), str(tmp_path / "trained"), trains=[component, "world_projection", "temporal_embedding"]
    )
    assert excused.status is Status.PASSED


def test_a_trainable_only_folder_is_held_against_its_base(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    model = load_world(tiny, freeze="projection")
    model.save_pretrained(tmp_path / "part", trainable_only=True)
    check = check_drift(str(tiny.gemma), str(tmp_path / "part"), cosmos=str(tiny.cosmos))
    # The base is stored in bfloat16, and both are loaded as they are stored.
    assert check.status is Status.PASSED, check
    assert rows_of(check)["world_projection"]["not_compared"] == 2
    without_vae = check_drift(str(tiny.gemma), str(tmp_path / "part"))
    assert without_vae.status is Status.INCONCLUSIVE
    assert "name the base's with --cosmos" in str(without_vae.reason)


def test_rows_that_were_added_to_a_table_are_counted_apart() -> None:
    table = torch.arange(12.0).view(4, 3)
    grown = _compare({"table": table}, {"table": torch.cat([table, torch.ones(2, 3)])}, is_trained=False)
    assert (grown.tensors, grown.elements, grown.changed_elements, grown.added_elements) == (1, 12, 0, 6)
    cut = _compare({"table": table}, {"table": table[:2]}, is_trained=False)
    assert (cut.not_compared, cut.changed_elements, cut.removed_elements) == ((), 0, 6)
    nan = torch.tensor([[float("nan"), 1.0]])
    assert _compare({"t": nan}, {"t": nan.clone()}, is_trained=False).changed_elements == 0
    broken = _compare({"t": torch.ones(1, 2)}, {"t": nan}, is_trained=False)
    assert (broken.changed_elements, broken.largest_change) == (1, float("inf"))


def test_what_cannot_be_said_is_inconclusive(tiny: SyntheticCheckpoint) -> None:
    check = check_drift(str(tiny.gemma), str(tiny.gemma))
    assert (check.status, "name it with --trains" in str(check.reason)) == (Status.INCONCLUSIVE, True)
    check = check_drift(str(tiny.gemma), str(tiny.gemma), trains=["vision_tower"])
    assert [f.code for f in check.findings] == ["drift.nothing_moved"]
    assert "the samples hold no picture" in str(check.findings[0].cause)
    with pytest.raises(InputError, match=r"--trains visoin: no such component or preset"):
        check_drift(str(tiny.gemma), str(tiny.gemma), trains=["visoin"])
    with pytest.raises(InputError, match=r"/nowhere"):
        check_drift("/nowhere", str(tiny.gemma))


def test_the_command_tells_what_moved(base: Path, trained: Any, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "trained")
    result = invoke("drift", str(base), str(tmp_path / "trained"), "--trains", "vision")
    assert result.exit_code == 0, result.output
    result = invoke("drift", str(base), str(tmp_path / "trained"), "--trains", "vision_tower")
    assert result.exit_code == 1, result.output
    assert "world_projection was frozen, and 1 of its" in " ".join(result.output.split())


def test_a_component_that_is_gone_is_no_pass(base: Path, tmp_path: Path) -> None:
    from theworld import TheWorld

    model = TheWorld.from_pretrained(base, enable_world=False)
    model.save_pretrained(tmp_path / "without")
    check = check_drift(str(base), str(tmp_path / "without"), trains=["language_model"])
    assert check.status is Status.INCONCLUSIVE
    assert str(check.reason).endswith(" of the base is not there any more")
    assert rows_of(check)["world_projection"]["lost"] == 2
    trained = _compare({"t": torch.ones(2, 2)}, {}, is_trained=True)
    assert _decide({"temporal_embedding": trained}, [], is_known=True)[0] is Status.INCONCLUSIVE


def test_pieces_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theworld_validate.audits.drift._PIECE", 5)
    table = torch.arange(1.0, 13.0).view(4, 3)
    drift = _compare({"t": table}, {"t": table + torch.tensor([[0.0], [2.0], [0.0], [1.0]])}, is_trained=True)
    assert (drift.elements, drift.changed_tensors, drift.changed_elements, drift.largest_change) == (12, 1, 6, 2.0)
    assert drift.relative_change == pytest.approx((15 / float(table.square().sum())) ** 0.5)
