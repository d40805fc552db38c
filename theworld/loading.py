"""How `TheWorld.from_pretrained` puts a model together.

In: a Gemma 3, TheWorld or trainable-only checkpoint, and what the caller asked for. Out: the loaded model.
The parent class loads every Gemma weight; diffusers loads the VAE; only then is the branch added.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig

from theworld.checkpoint_files import check_safetensors_folder
from theworld.configuration_theworld import TheWorldConfig, WorldConfig
from theworld.freezing import FreezeConfig, has_temporal_embedding
from theworld.partial_checkpoint import is_partial_checkpoint, load_trainable, read_base, verify_base
from theworld.world_encoder import WorldEncoder, load_vae, read_vae_config
from theworld.world_tokens import WORLD_PLACEHOLDER, add_world_tokens

DEFAULT_COSMOS = "nvidia/Cosmos-Predict2-2B-Video2World"
_HUB_KEYWORDS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def load_theworld(
    cls: type,
    parent_from_pretrained: Callable[..., Any],
    name_or_path: Any,
    *model_args: Any,
    enable_world: bool,
    cosmos_model_name_or_path: str | None,
    world: dict[str, Any] | None,
    freeze: FreezeConfig | None,
    **kwargs: Any,
) -> Any:
    """Load a model of class `cls`; the arguments are those of `TheWorld.from_pretrained`.

    Raises:
        ValueError: for contradictory arguments, or a checkpoint that cannot be read.
    """
    if not isinstance(enable_world, bool):
        raise ValueError(f"enable_world must be True or False, got {enable_world!r}")
    hub_kwargs = {key: kwargs[key] for key in _HUB_KEYWORDS if key in kwargs}
    if is_partial_checkpoint(name_or_path):
        if not enable_world or cosmos_model_name_or_path or world:
            raise ValueError(
                f"{name_or_path}: a trainable-only checkpoint brings its own base, Cosmos and world settings; "
                "leave enable_world, cosmos_model_name_or_path and world out"
            )
        return _load_partial(cls, Path(name_or_path), *model_args, freeze=freeze, **kwargs)

    if Path(str(name_or_path)).is_dir():
        check_safetensors_folder(Path(name_or_path, kwargs.get("subfolder") or ""))
    has_branch = _adopt_config(name_or_path, kwargs, hub_kwargs)
    if enable_world and has_branch and (cosmos_model_name_or_path or world):
        raise ValueError(
            f"{name_or_path}: the checkpoint has its own world branch; leave cosmos_model_name_or_path and world out"
        )
    if not enable_world:
        _leave_branch_out(kwargs)
    world_settings = None
    if enable_world and not has_branch:
        # Read before the weights: a wrong Cosmos repository must not cost a load of Gemma first.
        world_settings = _plan_world_branch(name_or_path, cosmos_model_name_or_path, world, freeze)

    loaded = parent_from_pretrained(name_or_path, *model_args, **kwargs)
    model = loaded[0] if isinstance(loaded, tuple) else loaded  # with its loading info, if that was asked for
    # transformers hands leftover keyword arguments to the generation config too; Gemma 3's has no such field.
    vars(model.generation_config).pop("world_config", None)
    if world_settings is not None:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **hub_kwargs)
        tokens = add_world_tokens(tokenizer, world_settings.get("world_token", WORLD_PLACEHOLDER))
        vae = load_vae(world_settings["cosmos_model_name_or_path"], dtype=model.dtype)
        model.add_world_branch(
            WorldEncoder(vae), WorldConfig.from_dict({**world_settings, **tokens.config_fields()}), tokens.vocab_size
        )
    if freeze is not None or enable_world:
        model.set_freeze(freeze or "projection")
    return loaded


def _adopt_config(name_or_path: Any, kwargs: dict[str, Any], hub_kwargs: dict[str, Any]) -> bool:
    """Make a config object among `kwargs` TheWorld's; return whether the checkpoint has a world branch."""
    given = kwargs.get("config")
    if isinstance(given, PreTrainedConfig):
        values = TheWorldConfig.adopt(given.to_dict(), source="config=")
        kwargs["config"] = TheWorldConfig(**values)
    else:
        values, _ = TheWorldConfig.get_config_dict(given or name_or_path, **hub_kwargs)
    return values.get("world_config") is not None


def _leave_branch_out(kwargs: dict[str, Any]) -> None:
    if isinstance(kwargs.get("config"), PreTrainedConfig):
        kwargs["config"].world_config = None
    else:
        kwargs["world_config"] = None


def _load_partial(cls: Any, folder: Path, *model_args: Any, freeze: FreezeConfig | None, **kwargs: Any) -> Any:
    base = read_base(folder)
    verify_base(folder, base)
    loaded = cls.from_pretrained(
        base.name_or_path, *model_args, **{**kwargs, **base.load_arguments()}, freeze=freeze or base.freeze
    )
    load_trainable(loaded[0] if isinstance(loaded, tuple) else loaded, folder)
    return loaded


def _plan_world_branch(
    name_or_path: Any, cosmos: str | None, world: dict[str, Any] | None, freeze: FreezeConfig | None
) -> dict[str, Any]:
    """Check what is known of the world branch before any weight is read; return `WorldConfig`'s fields."""
    if cosmos is None:
        if Path(str(name_or_path)).is_dir():
            raise ValueError(
                f"{name_or_path}: a Gemma 3 checkpoint has no world branch of its own; "
                "name a Cosmos repository as cosmos_model_name_or_path, or pass enable_world=False"
            )
        cosmos = DEFAULT_COSMOS
    vae_config, _ = read_vae_config(str(cosmos))
    settings = {"vae_config": vae_config, "cosmos_model_name_or_path": str(cosmos), **(world or {})}
    if freeze is not None and not has_temporal_embedding(freeze):
        settings["use_temporal_embedding"] = False
    WorldConfig.from_dict(settings)
    return settings
