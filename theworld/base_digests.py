"""Digests of everything in a base checkpoint that decides what a trained model does.

In: the folder of a Gemma 3 or TheWorld checkpoint, or of a VAE. Out: name -> digest, of the very files that
transformers or diffusers read. The chat template and other files around the model are left out.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from theworld.checkpoints.bounded_files import MAX_TOKENIZER_BYTES, is_regular_file, read_json_object
from theworld.checkpoints.checkpoint_files import digest_weights, file_digest
from theworld.checkpoints.weight_files import Layout

WEIGHTS = "weights"  # of all tensors, however they are spread over files
_WITHOUT_MEANING = ("_name_or_path", "transformers_version", "_diffusers_version")
_CONFIGS: Mapping[Layout, tuple[str, ...]] = {
    "transformers": ("config.json", "generation_config.json", "adapter_config.json"),
    "diffusers": ("config.json",),
}
_RAW: Mapping[Layout, tuple[str, ...]] = {
    "transformers": ("tokenizer.json", "adapter_model.safetensors"),
    "diffusers": (),
}


def base_digests(folder: Path, layout: Layout) -> dict[str, str]:
    """Digest a base: `WEIGHTS`, and each file by its name; absent files are absent.

    Raises:
        ValueError: if a file cannot be read.
    """
    whole, by_file = digest_weights(folder, layout)
    digests = {WEIGHTS: whole, **by_file}
    for name in _CONFIGS[layout]:
        if is_regular_file(folder / name):
            digests[name] = _json_digest(folder / name)
    for name in _RAW[layout]:
        if is_regular_file(folder / name):
            digests[name] = file_digest(folder / name)
    return digests


def changed_files(recorded: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Names of what differs between two digests of a base; how tensors are spread over files does not matter."""
    if recorded.get(WEIGHTS) == found.get(WEIGHTS):
        names = [n for n in {**recorded, **found} if not _holds_weights(n)]
    else:
        names = [n for n in {**recorded, **found} if n != WEIGHTS]
    return sorted(name for name in names if recorded.get(name) != found.get(name)) or (
        [] if recorded.get(WEIGHTS) == found.get(WEIGHTS) else [WEIGHTS]
    )


def _holds_weights(name: str) -> bool:
    return name == WEIGHTS or (name.endswith(".safetensors") and not name.startswith("adapter_"))


def _json_digest(path: Path) -> str:
    import xxhash

    values = read_json_object(path, max_bytes=MAX_TOKENIZER_BYTES)
    meaning = {key: value for key, value in values.items() if key not in _WITHOUT_MEANING}
    return xxhash.xxh3_128_hexdigest(json.dumps(meaning, sort_keys=True).encode())
