"""Safetensors headers: every rule of the format, broken once, is a line that names the file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from theworld.checkpoints.safetensors_header import (
    BITS_OF_DTYPE,
    TORCH_DTYPE_NAMES,
    TensorEntry,
    read_safetensors_header,
)

Header = dict[str, Any]


def write(path: Path, header: Any, data: bytes, *, raw: bytes | None = None) -> None:
    encoded = json.dumps(header).encode() if raw is None else raw
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD: Header = {"a": entry([2], 0, 8), "b": entry([], 8, 12), "__metadata__": {"format": "pt"}}


def changed(edit: Callable[[Header], object]) -> Header:
    header = json.loads(json.dumps(GOOD))
    edit(header)
    return header


BROKEN: dict[str, tuple[Any, str]] = {
    "st-hjson-list": ([1], "header is a list, expected an object"),
    "st-hjson-str": ("text", "header is a str, expected an object"),
    "number": (5, "header is a int, expected an object"),
    "st-entry-nodtype": (changed(lambda h: h["a"].pop("dtype")), "must hold dtype, shape and data_offsets"),
    "st-entry-nooffsets": (changed(lambda h: h["a"].pop("data_offsets")), "must hold dtype, shape and data_offsets"),
    "entry with more": (changed(lambda h: h["a"].update(x=1)), "and nothing else"),
    "entry a list": (changed(lambda h: h.update(a=[1])), "must hold dtype, shape and data_offsets"),
    "st-entry-offstr": (changed(lambda h: h["a"].update(data_offsets=["0", "8"])), "are not a begin and an end"),
    "st-off-negative": (changed(lambda h: h["a"].update(data_offsets=[-100, -92])), "are not a begin and an end"),
    "offsets backwards": (changed(lambda h: h["a"].update(data_offsets=[8, 0])), "are not a begin and an end"),
    "three offsets": (changed(lambda h: h["a"].update(data_offsets=[0, 4, 8])), "are not a begin and an end"),
    "offsets true": (changed(lambda h: h["a"].update(data_offsets=[False, 8])), "are not a begin and an end"),
    "st-shape-mismatch-bytes": (changed(lambda h: h["a"].update(shape=[3])), "takes 12 bytes, data_offsets span 8"),
    "shape negative": (changed(lambda h: h["a"].update(shape=[-2])), "is not a list of sizes"),
    "shape a float": (changed(lambda h: h["a"].update(shape=[2.0])), "is not a list of sizes"),
    "shape enormous": (changed(lambda h: h["a"].update(shape=[1 << 62, 1 << 62])), "data_offsets span 8"),
    "st-dtype-unknown": (changed(lambda h: h["a"].update(dtype="BF17")), "dtype BF17 is none of the format's"),
    "dtype a number": (changed(lambda h: h["a"].update(dtype=5)), "dtype 5 is none of the format's"),
    "st-dtype-F8": (changed(lambda h: h["a"].update(dtype="F8_E4M3")), "takes 2 bytes, data_offsets span 8"),
    "st-metadata-int": (changed(lambda h: h.update(__metadata__=5)), "not a map of text to text"),
    "metadata of numbers": (changed(lambda h: h.update(__metadata__={"a": 1})), "not a map of text to text"),
    "overlap": (changed(lambda h: h.update(b=entry([], 4, 8), c=entry([], 8, 12))), "overlaps the one before it"),
    "hole": (changed(lambda h: h.pop("a")), "leaves a hole before it"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_header_is_one_line(tmp_path: Path, name: str) -> None:
    header, message = BROKEN[name]
    path = tmp_path / "model-00001-of-00004.safetensors"
    write(path, header, bytes(12))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_safetensors_header(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a": 1, "a": 2}', "key a appears twice"),
        (b'{"a\\ud800": {}}', "half a surrogate pair"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "nested deeper than 64 levels"),
        (b"\xff\xfe{}", "is not JSON"),
        (b" {}", "expected an object"),
    ],
)
def test_a_header_that_is_not_strict_json_is_one_line(tmp_path: Path, raw: bytes, message: str) -> None:
    write(tmp_path / "a.safetensors", None, b"", raw=raw)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_safetensors_header(tmp_path / "a.safetensors")
    assert str(caught.value).isprintable()


def test_a_git_lfs_pointer_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 956752\n")
    with pytest.raises(ValueError, match=r"a.safetensors: a git-lfs pointer, not the file itself; run git lfs pull"):
        read_safetensors_header(path)


def test_a_right_header_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", GOOD, bytes(12))
    start = (tmp_path / "a.safetensors").stat().st_size - 12
    assert read_safetensors_header(tmp_path / "a.safetensors") == {
        "a": TensorEntry(dtype="F32", shape=(2,), start=start, stop=start + 8),
        "b": TensorEntry(dtype="F32", shape=(), start=start + 8, stop=start + 12),
    }


def test_every_dtype_that_torch_writes_is_known(tmp_path: Path) -> None:
    for name, torch_name in TORCH_DTYPE_NAMES.items():
        if not hasattr(torch, torch_name):
            continue
        tensor = torch.zeros(3, 0, 4).to(getattr(torch, torch_name))
        save_file({"a": tensor, "b": torch.zeros(4).to(tensor.dtype)}, tmp_path / name)
        entries = read_safetensors_header(tmp_path / name)
        assert {(e.dtype, e.shape) for e in entries.values()} == {(name, (3, 0, 4)), (name, (4,))}
        assert BITS_OF_DTYPE[name] == 8 * tensor.element_size()
