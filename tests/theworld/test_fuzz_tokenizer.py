"""Damaged tokenizer files: refused in one line, or loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.mutations import SETTINGS, damaged, is_refused, refused_or
from theworld.checkpoints.tokenizer_files import check_tokenizer_files, load_tokenizer

VOCABULARY = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6, "▁": 7}
SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": i, "content": name, **SPECIAL} for name, i in VOCABULARY.items() if i < 4],
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
    "post_processor": None,
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    "model": {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
        "vocab": VOCABULARY, "merges": [["a", "b"]],
    },
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "tokenizer_class": "GemmaTokenizerFast",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "model_max_length": 1000000000000000019884624838656,
    "added_tokens_decoder": {"0": {"content": "<pad>", **SPECIAL}},
    "extra_special_tokens": {"image_token": "a"},
    "clean_up_tokenization_spaces": False,
}
LOADED = settings(SETTINGS, max_examples=400)  # 10 ms each


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_the_undamaged_one_is_loaded(folder: Path) -> None:
    assert set(load_tokenizer(folder).get_vocab()) == {*VOCABULARY, "<mask>"}


@SETTINGS
@given(data=damaged(TOKENIZER))
def test_a_damaged_tokenizer_is_checked(folder: Path, data: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(data)
    is_refused(lambda: check_tokenizer_files(folder), ValueError)


@SETTINGS
@given(data=damaged(CONFIG))
def test_a_damaged_tokenizer_config_is_checked(folder: Path, data: bytes) -> None:
    (folder / "tokenizer_config.json").write_bytes(data)
    is_refused(lambda: check_tokenizer_files(folder), ValueError)


@LOADED
@given(data=damaged(TOKENIZER))
def test_a_damaged_tokenizer_is_loaded_or_refused(folder: Path, data: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(data)
    tokenizer = refused_or(lambda: load_tokenizer(folder), ValueError)
    assert tokenizer is None or len(tokenizer) >= 0


@LOADED
@given(data=damaged(CONFIG))
def test_a_damaged_tokenizer_config_is_loaded_or_refused(folder: Path, data: bytes) -> None:
    (folder / "tokenizer_config.json").write_bytes(data)
    tokenizer = refused_or(lambda: load_tokenizer(folder), ValueError)
    assert tokenizer is None or len(tokenizer) >= 0


def test_a_checkpoints_own_code_is_not_asked_about(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.py").write_text("raise SystemExit('it was run')")
    config = {**CONFIG, "tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_tokenizer(folder)
    assert capsys.readouterr().out == ""
