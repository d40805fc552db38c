"""The pass over values: infinities, zero matrices and differing tied tables, in every floating dtype."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from theworld.checkpoints import value_audit
from theworld.checkpoints.key_audit import read_headers
from theworld.checkpoints.value_audit import NonFinite, audit_values
from theworld.checkpoints.weight_files import resolve_weight_files
from theworld.synthetic import SyntheticCheckpoint

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]


def values_of(folder: Path, tensors: dict[str, torch.Tensor], **arguments: tuple[tuple[str, str], ...]) -> object:
    save_file(tensors, folder / "model.safetensors")
    return audit_values(read_headers(resolve_weight_files(folder)), **arguments)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_finite_is_counted(tmp_path: Path, dtype: torch.dtype) -> None:
    bad = torch.ones(4, 5)
    bad[1, 2], bad[3, 4] = float("nan"), float("-nan")
    largest = torch.full((3,), torch.finfo(dtype).max, dtype=torch.float64)
    found = values_of(tmp_path, {"bad": bad.to(dtype), "largest": largest.to(dtype), "tiny": torch.zeros(3).to(dtype)})
    assert found.non_finite == (NonFinite(key="bad", file="model.safetensors", num_elements=2),)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e5m2])
def test_infinities_are_not_finite(tmp_path: Path, dtype: torch.dtype) -> None:
    found = values_of(tmp_path, {"bad": torch.tensor([1.0, float("inf"), -float("inf")]).to(dtype)})
    assert found.non_finite[0].num_elements == 2


def test_matrices_of_zeros_are_named(tmp_path: Path) -> None:
    minus = torch.full((4, 4), -0.0, dtype=torch.bfloat16)
    almost = torch.zeros(4, 4)
    almost[3, 3] = 1e-45
    tensors = {"zero": torch.zeros(4, 4), "minus": minus, "vector": torch.zeros(9), "almost": almost}
    tensors |= {"whole": torch.zeros(2, 2, dtype=torch.int8), "empty": torch.zeros(0, 4)}
    assert set(values_of(tmp_path, tensors).all_zero) == {"zero", "minus", "whole"}


def test_tied_tables_are_compared_and_pieces_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_audit, "_PIECE_BYTES", 64)
    table = torch.randn(50, 7)
    other = table.clone()
    other[49, 6] += 1
    tensors = {"a": table, "same": table.clone(), "other": other, "half": table.half()}
    pairs = (("a", "same"), ("a", "other"), ("a", "half"))
    assert values_of(tmp_path, tensors, tied_twice=pairs).tied_different == (("a", "other"), ("a", "half"))


def test_a_right_checkpoint_has_nothing_to_say(tiny: SyntheticCheckpoint) -> None:
    found = audit_values(read_headers(resolve_weight_files(tiny.gemma)))
    assert (found.num_tensors, found.non_finite, found.all_zero, found.tied_different) == (145, (), (), ())
    assert found.num_bytes > 1_000_000
