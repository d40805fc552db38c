"""Faults of a checkpoint's files: both sides load the same damaged folder, so no comparison of models sees them."""

import json
from pathlib import Path

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import fault, rewrite_files

NORM = "layers.3.input_layernorm"
_LOST = (Cause.LOST_KEY, Cause.CHECKPOINT_FILES)
_EXTRA = (Cause.EXTRA_KEY, Cause.CHECKPOINT_FILES)
_SHADOWED = (Cause.SHADOWED_FILE, Cause.CHECKPOINT_FILES)


@fault("files", "unsloth #733", "files", r"layers\.3\.input_layernorm", *_LOST, how="folder")
def lost_key(folder: Path) -> None:
    rewrite_files(folder, lambda state: {name: tensor for name, tensor in state.items() if NORM not in name})


@fault("files", "a key of another model", "files", r"layers\.3\.extra_layernorm", *_EXTRA, how="folder")
def extra_key(folder: Path) -> None:
    rewrite_files(
        folder,
        lambda state: (
            state | {name.replace("input_", "extra_"): t.clone() for name, t in state.items() if NORM in name}
        ),
    )


@fault("files", "pytorch #101107, nanoGPT #325", "files", r"_orig_mod", *_EXTRA, *_LOST, how="folder", needs=())
def keys_of_a_compiled_model(folder: Path) -> None:
    rewrite_files(folder, lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()})


@fault("files", "transformers #46650", "files", r"layers\.", *_EXTRA, *_LOST, how="folder")
def keys_nested_twice(folder: Path) -> None:
    rewrite_files(folder, lambda state: {n.replace("layers.", "layers.layers."): t for n, t in state.items()})


@fault("files", "transformers #20082", "files", r"embed_tokens", Cause.CHECKPOINT_FILES, how="folder")
def empty_tensor(folder: Path) -> None:
    rewrite_files(folder, lambda state: {n: t.new_empty(0) if "embed_tokens" in n else t for n, t in state.items()})


@fault("files", "two saves into one folder", "files", r"model\.safetensors", *_SHADOWED, how="folder", needs=())
def shadowed_file(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    shards = sorted(folder.glob("*.safetensors"))
    state = {name: tensor for path in shards for name, tensor in load_file(path).items()}
    if (folder / "model.safetensors").exists():  # a folder of one file: shards of an older save come beside it
        save_file(state, folder / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
        weight_map = dict.fromkeys(state, "model-00001-of-00001.safetensors")
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
