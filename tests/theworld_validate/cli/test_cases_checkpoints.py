"""Damaged and hostile checkpoints, from the command: config, index, safetensors, VAE, tokenizer, pickles, foreign code.

The rules themselves are tested with `theworld`; here each kind goes the whole way to the exit code and the one line.
"""

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld.synthetic import SyntheticCheckpoint

SHARD = "model-00001-of-00004.safetensors"
INDEX = "model.safetensors.index.json"
VAE_WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def cosmos_copy(tiny: SyntheticCheckpoint, tmp_path: Path) -> Path:
    """A copy of the Cosmos folder that a test may damage."""
    return Path(shutil.copytree(tiny.cosmos, tmp_path / "cosmos"))


def edit(path: Path, section: str | None = None, **fields: Any) -> None:
    """Set fields of a JSON file, or of an object in it."""
    values = json.loads(path.read_text())
    (values if section is None else values[section]).update(fields)
    path.write_text(json.dumps(values))


def assert_refused(*arguments: object, parts: tuple[str, ...]) -> None:
    """One line with all the parts, soon, and nothing written."""
    began = time.monotonic()
    output = Path(os.environ["THEWORLD_TEST_OUTPUT"])
    assert_input_error(invoke(*arguments, "--output", output), *parts)
    assert time.monotonic() - began < 60
    assert not output.exists()


@pytest.fixture(autouse=True)
def _output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEWORLD_TEST_OUTPUT", str(tmp_path / "report"))


# config.json

CONFIG: list[tuple[str | None, str, Any]] = [
    (None, "vision_config", None),
    ("text_config", "hidden_size", 1_000_000_000),
    ("text_config", "hidden_size", 0),
    ("text_config", "num_attention_heads", 0),
    ("text_config", "num_key_value_heads", 3),
    ("text_config", "vocab_size", 1_000_000_000),
    ("text_config", "vocab_size", -5),
    ("text_config", "head_dim", 0),
    ("text_config", "intermediate_size", 10_000_000_000),
    ("text_config", "num_hidden_layers", 1_000_000),
    ("text_config", "sliding_window", 100_000_000),
    ("text_config", "sliding_window", -1),
    ("text_config", "sliding_window", 0),
    ("text_config", "sliding_window", None),
    ("text_config", "rope_parameters", {"full_attention": {"rope_type": "evil"}}),
    ("text_config", "bos_token_id", 1_000_000_000),
    ("text_config", "hidden_activation", "nope"),
    (None, "boi_token_index", -1),
    (None, "boi_token_index", 0),
    (None, "mm_tokens_per_image", 100_000_000),
    (None, "mm_tokens_per_image", 0),
    (None, "mm_tokens_per_image", -4),
    (None, "dtype", "evil"),
    (None, "eoi_token_index", None),
    (None, "base_model_tp_plan", 5),
    (None, "is_encoder_decoder", "x"),
    (None, "output_attentions", True),
    (None, "attn_implementation", "flash_attention_2"),
    (None, "attn_implementation", "kernels-community/flash-attn"),
    (None, "quantization_config", {"quant_method": "gptq", "bits": 4}),
    (None, "quantization_config", "x"),
    (None, "quantization_config", [1]),
    ("vision_config", "image_size", 1_000_000),
    ("vision_config", "image_size", 0),
    ("vision_config", "image_size", -7),
    ("vision_config", "patch_size", 0),
    ("vision_config", "patch_size", 1_000_000),
    ("vision_config", "num_channels", 1_000_000_000),
    ("vision_config", "num_hidden_layers", 10_000_000),
    ("vision_config", "num_attention_heads", 0),
]


@pytest.mark.parametrize(
    ("section", "field", "value"), CONFIG, ids=[f"{s or 'top'}.{f}={v!s:.20}" for s, f, v in CONFIG]
)
def test_an_impossible_config_field(gemma_copy: Path, section: str | None, field: str, value: Any) -> None:
    edit(gemma_copy / "config.json", section, **{field: value})
    assert_refused("parity", "--model", gemma_copy, parts=("config.json: ", field))


@pytest.mark.parametrize("command", ["files", "buffers", "gradients", "params", "world", "claims", "fingerprint"])
def test_every_command_refuses_an_impossible_config(
    tiny: SyntheticCheckpoint, gemma_copy: Path, tmp_path: Path, command: str
) -> None:
    edit(gemma_copy / "config.json", "text_config", hidden_size=1_000_000_000)
    named = (gemma_copy,) if command == "files" else ("--model", gemma_copy)
    cosmos = () if command in ("files", "fingerprint") else ("--cosmos", tiny.cosmos)
    parts = (f"{gemma_copy}/config.json: ", "hidden_size")
    if command == "fingerprint":
        assert_input_error(invoke(command, *named, "--output", tmp_path / "a.json"), *parts)
        assert not (tmp_path / "a.json").exists()
    else:
        assert_refused(command, *named, *cosmos, parts=parts)


def test_the_bare_command_refuses_an_impossible_config(gemma_copy: Path) -> None:
    edit(gemma_copy / "config.json", "vision_config", num_hidden_layers=10_000_000)
    assert_refused("--model", gemma_copy, parts=("config.json: ", "num_hidden_layers"))


@pytest.mark.parametrize("name", ["config.json", INDEX, SHARD, "tokenizer.json", "generation_config.json"])
@pytest.mark.parametrize("what", ["/dev/zero", "FIFO", "FOLDER", "/proc/self/mem"])
def test_what_is_no_regular_file_is_not_read(gemma_copy: Path, name: str, what: str) -> None:
    (gemma_copy / name).unlink()
    if what == "FIFO":
        os.mkfifo(gemma_copy / name)
    elif what == "FOLDER":
        (gemma_copy / name).mkdir()
    else:
        (gemma_copy / name).symlink_to(what)
    assert_refused("parity", "--model", gemma_copy, parts=(name,))


# The index

INDICES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "ix-traversal": (lambda weights: weights.update({_first(weights): "../outside.safetensors"}), "outside"),
    "ix-absolute": (lambda weights: weights.update({_first(weights): "/etc/passwd"}), "passwd"),
    "ix-map-mixed": (lambda weights: weights.update({_first(weights): 5}), INDEX),
    "ix-map-listval": (lambda weights: weights.update({_first(weights): [SHARD]}), INDEX),
    "ix-map-long": (lambda weights: weights.update({_first(weights): "a" * 10_000}), INDEX),
    "ix-map-newline": (lambda weights: weights.update({_first(weights): "a\n::error::pwned"}), "pwned"),
    "ix-map-empty": (lambda weights: weights.clear(), "weight_map"),
}


def _first(weights: dict[str, Any]) -> str:
    return next(iter(weights))


@pytest.mark.parametrize("case", INDICES)
@pytest.mark.parametrize("command", ["parity", "files"])
def test_a_hostile_index(gemma_copy: Path, tmp_path: Path, case: str, command: str) -> None:
    inflict, named = INDICES[case]
    shutil.copy(gemma_copy / SHARD, tmp_path / "outside.safetensors")
    index = json.loads((gemma_copy / INDEX).read_text())
    inflict(index["weight_map"])
    (gemma_copy / INDEX).write_text(json.dumps(index))
    assert_refused(command, *(("--model",) if command == "parity" else ()), gemma_copy, parts=(named,))


# Safetensors


def rewrite_header(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the header of a safetensors file, and leave its bytes."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(change(json.loads(data[8 : 8 + size]))).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])


def in_first_entry(**fields: Any) -> Callable[[Any], Any]:
    """Set fields of the first tensor's entry; None removes one."""

    def change(header: Any) -> Any:
        name = next(name for name in header if name != "__metadata__")
        entry = {**header[name], **fields}
        return {**header, name: {field: value for field, value in entry.items() if value is not None}}

    return change


HEADERS: dict[str, Callable[[Any], Any]] = {
    "st-hjson-list": lambda header: [header],
    "st-hjson-str": lambda _header: "header",
    "st-hjson-null": lambda _header: None,
    "st-entry-nodtype": in_first_entry(dtype=None),
    "st-entry-nooffsets": in_first_entry(data_offsets=None),
    "st-entry-offstr": in_first_entry(data_offsets=["0", "100"]),
    "st-off-negative": in_first_entry(data_offsets=[-100, 0]),
    "st-off-huge": in_first_entry(data_offsets=[0, 2**70]),
    "st-shape-mismatch-bytes": in_first_entry(shape=[3]),
    "st-dtype-unknown": in_first_entry(dtype="BF17"),
    "st-dtype-F8": in_first_entry(dtype="F8_E4M3"),
    "st-metadata-int": lambda header: {**header, "__metadata__": 5},
    "st-entry-int": lambda header: {**header, "lm_head.weight": 5},
}


@pytest.mark.parametrize("case", HEADERS)
@pytest.mark.parametrize("command", ["parity", "files"])
def test_a_wrong_safetensors_header(gemma_copy: Path, case: str, command: str) -> None:
    rewrite_header(gemma_copy / SHARD, HEADERS[case])
    assert_refused(command, *(("--model",) if command == "parity" else ()), gemma_copy, parts=(SHARD,))


def change_shard(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Change the tensors of the first shard; return the name of the first."""
    tensors = load_file(folder / SHARD)
    name = next(name for name in tensors if name.endswith("mlp.down_proj.weight"))
    change(tensors)
    save_file(tensors, folder / SHARD, metadata={"format": "pt"})
    return name


def of_first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], object]:
    """Change one weight."""

    def apply(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in tensors if name.endswith("mlp.down_proj.weight"))
        tensors[name] = change(tensors[name]).contiguous()

    return apply


def lose_first(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[next(name for name in tensors if name.endswith("mlp.down_proj.weight"))]


NOT_LOADED = "nothing was loaded: the checkpoint's files and the model do not fit"
TENSORS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "st-other-shape": (of_first(lambda weight: weight[:-1]), "mlp.down_proj.weight: mismatched"),
    "st-missing-tensor": (lose_first, "mlp.down_proj.weight: missing"),
    "st-extra-tensor": (lambda tensors: tensors.update(evil=torch.ones(3)), "evil: unexpected"),
    "st-int8-tensor": (of_first(lambda weight: weight.to(torch.int8)), "mlp.down_proj.weight: mistyped"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit_are_a_failed_check_and_nothing_is_loaded(gemma_copy: Path, case: str) -> None:
    change, message = TENSORS[case]
    change_shard(gemma_copy, change)
    for command, check_id in (("parity", "parity.files"), ("files", "files.keys")):
        model = ("--model", gemma_copy) if command == "parity" else (gemma_copy,)
        result = invoke(command, *model, "--json")
        assert (result.exit_code, result.stderr) == (1, "")
        check = json.loads(result.stdout)["checks"][0]
        assert (check["id"], check["status"]) == (check_id, "failed")
        assert check["reason"] == (NOT_LOADED if command == "parity" else None)
        assert [message in finding["message"] for finding in check["findings"]] == [True]


def test_weights_that_are_no_numbers_prove_nothing(gemma_copy: Path) -> None:
    change_shard(gemma_copy, lambda tensors: [tensor.fill_(float("nan")) for tensor in tensors.values()])
    result = invoke("files", gemma_copy, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    values = json.loads(result.stdout)["checks"][1]
    assert (values["id"], values["status"]) == ("files.values", "failed")
    assert {finding["code"] for finding in values["findings"]} == {"files.non_finite"}
    result = invoke("parity", "--model", gemma_copy, "--probe", "text", "--json")
    assert (result.exit_code, result.stderr) == (3, "")
    checks = {check["id"]: check for check in json.loads(result.stdout)["checks"]}
    probe = checks["parity.probe.text"]
    assert probe["status"] == "inconclusive"
    assert probe["reason"] == "the reference's own outputs are not finite: they prove nothing"


# The VAE and the tokenizer

STD = [1.0] * 15
VAE: list[tuple[str, str, Any]] = [
    ("v-std-zero", "latents_std", [0.0, *STD]),
    ("v-std-neg", "latents_std", [-1.0, *STD]),
    ("v-std-str", "latents_std", ["1"] * 16),
    ("v-dim-huge", "base_dim", 10**7),
    ("v-dim-str", "base_dim", "x"),
    ("v-temperal", "temperal_downsample", []),
]


@pytest.mark.parametrize(("field", "value"), [row[1:] for row in VAE], ids=[row[0] for row in VAE])
@pytest.mark.parametrize("command", ["world", "params"])
def test_an_impossible_vae(cosmos_copy: Path, tiny: SyntheticCheckpoint, command: str, field: str, value: Any) -> None:
    edit(cosmos_copy / "vae" / "config.json", **{field: value})
    arguments = (command, "--model", tiny.gemma, "--cosmos", cosmos_copy)
    assert_refused(*arguments, parts=("vae/config.json: ", field))


@pytest.mark.parametrize("text", ["[]", "{", '{"latents_std": [NaN]}', "null"])
def test_a_vae_config_that_is_none(cosmos_copy: Path, text: str) -> None:
    (cosmos_copy / "vae" / "config.json").write_text(text)
    assert_refused("world", "--cosmos", cosmos_copy, parts=("vae/config.json: ",))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "5"),
    ],
)
@pytest.mark.parametrize("command", ["world", "parity"])
def test_a_tokenizer_that_is_none(
    gemma_copy: Path, tiny: SyntheticCheckpoint, command: str, name: str, text: str
) -> None:
    (gemma_copy / name).write_text(text)
    cosmos = ("--cosmos", tiny.cosmos) if command == "world" else ()
    assert_refused(command, "--model", gemma_copy, *cosmos, parts=(f"{gemma_copy}/{name}: ",))


# Pickles and foreign code


class Payload:
    """Unpickled, it leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("decoy", [None, VAE_WEIGHTS, "adapter_model.safetensors"])
@pytest.mark.parametrize("command", ["parity", "files"])
def test_a_pickle_is_never_opened(gemma_copy: Path, tmp_path: Path, decoy: str | None, command: str) -> None:
    """Not even where a safetensors file of another name stands beside it."""
    marker = tmp_path / "opened"
    shard = (gemma_copy / SHARD).read_bytes()
    for path in gemma_copy.glob("model*"):
        path.unlink()
    (gemma_copy / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    if decoy is not None:
        (gemma_copy / decoy).write_bytes(shard)
    model = ("--model", gemma_copy) if command == "parity" else (gemma_copy,)
    assert_refused(command, *model, parts=(f"{gemma_copy}: ", "pytorch_model.bin"))
    assert not marker.exists()


@pytest.mark.parametrize("decoy", [None, "model.safetensors"])
def test_a_pickle_of_the_vae_is_never_opened(cosmos_copy: Path, tmp_path: Path, decoy: str | None) -> None:
    marker = tmp_path / "opened"
    weights = cosmos_copy / "vae" / VAE_WEIGHTS
    if decoy is not None:
        shutil.copy(weights, weights.with_name(decoy))
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(pickle.dumps(Payload(marker)))
    assert_refused("world", "--cosmos", cosmos_copy, parts=("vae", VAE_WEIGHTS))
    assert not marker.exists()


def test_code_of_a_checkpoint_is_never_run(tiny: SyntheticCheckpoint, gemma_copy: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (gemma_copy / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Evil: pass\n")
    classes = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoProcessor")
    edit(gemma_copy / "config.json", auto_map=dict.fromkeys(classes, "evil.Evil"))
    result = invoke("parity", "--model", gemma_copy, "--probe", "text")
    assert result.exit_code == 0, result.output
    assert invoke("world", "--model", gemma_copy, "--cosmos", tiny.cosmos).exit_code == 0
    assert not marker.exists()
