"""The audit of a checkpoint's files: keys from headers, then values, then a hub cache's checksums if asked."""

import json
from pathlib import Path

import pytest
import torch

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.audits.files import check_files
from theworld_validate.faults.base import rewrite_files
from theworld_validate.results import CheckResult, InputError, Status

NORM = "language_model.model.layers.3.input_layernorm.weight"


def audit(folder: Path, *, verify: bool = False) -> dict[str, CheckResult]:
    return {check.id: check for check in check_files(str(folder), verify=verify)}


def test_a_whole_checkpoint_passes(tiny: SyntheticCheckpoint) -> None:
    steps: list[str] = []
    keys, values = check_files(str(tiny.gemma), progress=steps.append)
    assert (keys.id, keys.status, values.id, values.status) == (
        "files.keys",
        Status.PASSED,
        "files.values",
        Status.PASSED,
    )
    assert keys.measurements["keys"] == values.measurements["tensors"] > 100
    assert keys.measurements["bytes"] == values.measurements["bytes"] > 1_000_000
    assert not keys.findings
    assert not values.findings
    assert steps == ["keys against parameters", "values"]


def test_a_lost_key_is_named(gemma_copy: Path) -> None:
    rewrite_files(gemma_copy, lambda tensors: {key: value for key, value in tensors.items() if key != NORM})
    checks = audit(gemma_copy)
    assert checks["files.keys"].status is Status.FAILED
    (finding,) = checks["files.keys"].findings
    assert (finding.code, finding.severity) == ("files.missing", "error")
    assert finding.location.endswith("layers.3.input_layernorm.weight")


@pytest.mark.parametrize(("value", "code"), [(float("nan"), "files.non_finite"), (0.0, "files.all_zero")])
def test_values_that_nobody_trained_are_named(gemma_copy: Path, value: float, code: str) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            key: torch.full_like(t, value) if key.endswith("mlp.up_proj.weight") else t for key, t in tensors.items()
        }

    rewrite_files(gemma_copy, spoil)
    checks = audit(gemma_copy)
    assert checks["files.keys"].status is Status.PASSED
    assert checks["files.values"].status is Status.FAILED
    assert {finding.code for finding in checks["files.values"].findings} == {code}
    assert len(checks["files.values"].findings) == 8  # one a layer


def test_files_without_checksums_are_no_evidence(tiny: SyntheticCheckpoint) -> None:
    """Only a hub cache names its files by their checksums."""
    check = audit(tiny.gemma, verify=True)["files.checksums"]
    assert (check.status, check.reason) == (Status.INCONCLUSIVE, "nothing was compared")


def test_a_file_that_cannot_be_read_is_one_line(gemma_copy: Path) -> None:
    index = gemma_copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": ["b"]}}))
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json"):
        audit(gemma_copy)
