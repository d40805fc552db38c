"""Empty models: a whole model on the meta device, from configs alone. No weight is read and none is made.

In: a size's name, a config.json, a folder or a hub id. Out: a `TheWorldConfig` with its world branch, and the model
that it describes.
"""

import json
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import one_line, summary
from theworld_validate.results import InputError
from theworld_validate.subjects.checkpoints import read_config

FIRST_FREE_ROWS = 2  # <start_of_world> and <end_of_world>


def blueprint_of_size(size: str) -> Any:
    """The config of one of the geometries that are known by name.

    Raises:
        InputError: if there is no such size.
    """
    from transformers import Gemma3Config

    from theworld.geometries import SIZES, geometry

    if size not in SIZES:
        raise InputError(f"--config {one_line(size)}: no such size or file; give {', '.join(SIZES)}, or a config.json")
    shape = geometry(size)
    values = Gemma3Config(**shape.gemma_config, dtype="bfloat16").to_dict()
    return _with_world(values, shape.vae_config, num_tokens=shape.num_tokens, cosmos=None)


def blueprint_of_file(path: Path) -> Any:
    """The config of a bare config.json; its tokenizer is taken to end with the image token, as Gemma 3's does.

    Raises:
        InputError: if it cannot be read, or is of another architecture.
    """
    from huggingface_hub.errors import StrictDataclassError

    from theworld.checkpoints.checkpoint_files import read_json_object
    from theworld.configuration_theworld import TheWorldConfig
    from theworld.geometries import geometry

    try:
        values = read_json_object(path)
        values = TheWorldConfig.adopt(values, source=str(path.parent))
        if values.get("world_config") is not None:
            return TheWorldConfig(**values)
        num_tokens = values.get("image_token_index", 262_144) + 1
        return _with_world(values, geometry("4b").vae_config, num_tokens=num_tokens, cosmos=None)
    except (ValueError, TypeError, KeyError, OSError, StrictDataclassError) as error:
        # theworld's readers begin with the file, as they know it.
        what = summary(error).removeprefix(f"{path}: ").removeprefix(f"{path.parent}/config.json: ")
        raise InputError(f"--config {one_line(path)}: {what}") from error


def blueprint_of_checkpoint(checkpoint: str, cosmos: str | None) -> Any:
    """The config of a checkpoint: a folder or a hub id; only configs and the tokenizer are read.

    Raises:
        InputError: if one of them cannot be read, or there is no VAE.
    """
    from theworld.checkpoints.tokenizer_files import load_tokenizer
    from theworld.world_encoder import read_vae_config

    config = read_config(checkpoint)
    if config.world_config is not None:
        return config
    if cosmos is None:
        raise InputError(f"{checkpoint}: a model without a VAE; name a Cosmos repository or VAE folder with --cosmos")
    try:
        vae_config, _ = read_vae_config(cosmos)
        num_tokens = len(load_tokenizer(checkpoint))
        return _with_world(config.to_dict(), vae_config, num_tokens=num_tokens, cosmos=cosmos)
    except (OSError, ValueError) as error:
        raise InputError(summary(error)) from error


def _with_world(values: dict[str, Any], vae_config: dict[str, Any], *, num_tokens: int, cosmos: str | None) -> Any:
    from theworld.configuration_theworld import TheWorldConfig, WorldConfig

    world = WorldConfig(
        vae_config=vae_config,
        cosmos_model_name_or_path=cosmos,
        start_of_world_token_id=num_tokens,
        end_of_world_token_id=num_tokens + 1,
    )
    config_class: Any = TheWorldConfig
    config = config_class(**{**values, "model_type": TheWorldConfig.model_type, "world_config": world})
    # `TheWorld.add_world_branch` resizes the embedding to the tokenizer's length.
    config.text_config.vocab_size = num_tokens + FIRST_FREE_ROWS
    return config


def build_on_meta(config: Any, *, freeze: str = "projection", dtype: str = "bfloat16") -> Any:
    """Build a model on the meta device, frozen as a preset says.

    Args:
        config: a `TheWorldConfig` with a world branch; not changed.
        freeze: a preset; "documented" leaves the temporal embedding out.

    Raises:
        InputError: for an unknown preset, or a config that no model can be built from.
    """
    return _build(config, freeze=freeze, dtype=dtype, device="meta")


def _build(config: Any, *, freeze: str, dtype: str, device: str) -> Any:
    import torch
    from transformers.initialization import no_init_weights

    from theworld import TheWorld
    from theworld.configuration_theworld import TheWorldConfig
    from theworld.freezing import has_temporal_embedding, resolve_freeze

    try:
        resolved = resolve_freeze(freeze)
    except ValueError as error:
        raise InputError(str(error)) from error
    assert resolved is not None
    values = json.loads(json.dumps(config.to_dict(), default=str))
    if not has_temporal_embedding(resolved):
        values["world_config"]["use_temporal_embedding"] = False
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(getattr(torch, dtype))
        with torch.device(device), no_init_weights():
            model = TheWorld(TheWorldConfig(**values))
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"config.json describes no model that can be built: {summary(error)}") from error
    finally:
        torch.set_default_dtype(before)
    model.tie_weights()
    try:
        model.set_freeze(resolved)
    except ValueError as error:  # the components do not cover the model
        raise InputError(str(error)) from error
    return model


def build_without_data(config: Any, *, freeze: str = "projection", dtype: str = "bfloat16") -> tuple[Any, Any]:
    """Build a model whose tensors have no data but claim to be on the CPU, so that all code paths are real.

    Returns:
        The `FakeTensorMode` that its tensors belong to, and the model.

    Raises:
        InputError: as `build_on_meta`.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        return mode, _build(config, freeze=freeze, dtype=dtype, device="cpu")
