"""How `TheWorld.from_pretrained` puts a model together.

In: a Gemma 3, TheWorld or trainable-only checkpoint, and what the caller asked for. Out: the loaded model.
Files, config and keys are checked first; the parent class loads every Gemma weight; diffusers loads the VAE; only then
is the branch added.
"""

import copy
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from theworld.adapters import check_says_branch, take_adapter
from theworld.checkpoints.bounded_files import check_readable_path, is_folder
from theworld.checkpoints.error_text import not_reachable, one_line, shown_name, summary
from theworld.checkpoints.key_audit import audit_checkpoint
from theworld.checkpoints.key_problems import require_complete, require_matching_keys
from theworld.checkpoints.tokenizer_files import load_tokenizer
from theworld.configuration_theworld import TheWorldConfig, WorldConfig
from theworld.folder_rules import CheckedFolder, check_gemma3_folder
from theworld.freezing import FreezeConfig, has_temporal_embedding
from theworld.partial_checkpoint import is_partial_checkpoint
from theworld.partial_loading import load_partial
from theworld.published_names import EITHER_WAY, published_name
from theworld.world_encoder import WorldEncoder, load_vae, read_vae_config
from theworld.world_tokens import WORLD_PLACEHOLDER, WorldTokenIds, add_world_tokens

log = logging.getLogger("theworld.loading")
DEFAULT_COSMOS = "nvidia/Cosmos-Predict2-2B-Video2World"
_MISPLACED = {
    "use_gradient_checkpointing": "call model.gradient_checkpointing_enable(), or tell the trainer",
    **{
        name: f"write world={{{name!r}: ...}}"
        for name in ("frame_size", "max_world_steps", "use_temporal_embedding", "world_token")
    },
}
_FRESH = ("world_projection.", "temporal_embedding.")  # of a new branch, the VAE alone comes out of a file
_HUB_KEYWORDS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def load_theworld(
    cls: type,
    parent_from_pretrained: Callable[..., Any],
    name_or_path: Any,
    *model_args: Any,
    enable_world: bool | None,
    cosmos_model_name_or_path: str | None,
    **kwargs: Any,
) -> Any:
    """Load a model of class `cls`; the arguments are those of `TheWorld.from_pretrained`.

    Raises:
        ValueError: for contradictory arguments, a checkpoint that cannot be read, or keys that are not the model's.
    """
    _check_arguments(enable_world, kwargs)
    if name_or_path is not None or kwargs.get("state_dict") is None:
        check_name(name_or_path)
    adapter = take_adapter(name_or_path, kwargs)
    if adapter is not None:
        if not isinstance(kwargs.get("config"), PreTrainedConfig):
            hub_kwargs = {key: kwargs[key] for key in _HUB_KEYWORDS if key in kwargs}
            check_says_branch(
                adapter, enable_world=enable_world, cosmos=cosmos_model_name_or_path, hub_kwargs=hub_kwargs
            )
        name_or_path = adapter.base
    loaded = _load_base(
        cls,
        parent_from_pretrained,
        name_or_path,
        *model_args,
        enable_world=enable_world,
        cosmos_model_name_or_path=cosmos_model_name_or_path,
        **kwargs,
    )
    if adapter is None:
        return loaded
    model, info = loaded if isinstance(loaded, tuple) else (loaded, {})
    told = adapter.put_on(model, offload_folder=kwargs.get("offload_folder"))
    return (model, _joined(info, told)) if isinstance(loaded, tuple) else model


def _joined(base: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
    """The account of a load in two parts: sets of keys, and a list of messages."""
    joined = dict(base)
    for name, found in adapter.items():
        before = base.get(name, ())
        joined[name] = [*before, *found] if isinstance(found, list) else {*before, *found}
    return joined


def _load_base(
    cls: type,
    parent_from_pretrained: Callable[..., Any],
    name_or_path: Any,
    *model_args: Any,
    enable_world: bool | None,
    cosmos_model_name_or_path: str | None,
    world: dict[str, Any] | None,
    freeze: FreezeConfig | None,
    **kwargs: Any,
) -> Any:
    hub_kwargs = {key: kwargs[key] for key in _HUB_KEYWORDS if key in kwargs}
    folder = Path(str(name_or_path), kwargs.get("subfolder") or "")
    if is_partial_checkpoint(name_or_path and folder):
        if enable_world is False or cosmos_model_name_or_path or world:
            raise ValueError(
                f"{folder}: a trainable-only checkpoint brings its own base, Cosmos and world settings; "
                "leave enable_world, cosmos_model_name_or_path and world out"
            )
        kwargs.pop("subfolder", None)
        return load_partial(cls, folder, *model_args, freeze=freeze, **kwargs)

    _refuse_pickles(name_or_path, kwargs)
    checked = None
    if is_folder(Path(str(name_or_path))) and kwargs.get("gguf_file") is None:
        folder = Path(name_or_path, kwargs.get("subfolder") or "")
        checked = check_gemma3_folder(folder, variant=kwargs.get("variant"))
    values, is_gemma = _adopt_config(name_or_path, kwargs, hub_kwargs)
    has_branch = values.get("world_config") is not None
    enable_world = _wants_branch(
        name_or_path, enable_world, cosmos_model_name_or_path, world, has_branch=has_branch, is_gemma=is_gemma
    )
    if enable_world:
        _keep_branch_unquantised(kwargs)
    loses_branch = has_branch and not enable_world
    if freeze is None and not loses_branch and (saved := values.get("trainable_components")) is not None:
        freeze = FreezeConfig(trainable=tuple(saved))
    if not enable_world:
        _leave_out(("world_config", "trainable_components") if loses_branch else ("world_config",), kwargs)
    plan = None
    if enable_world and not has_branch:
        # Read before the weights: a wrong Cosmos repository must not cost a load of Gemma first.
        settings = _plan_world_branch(name_or_path, cosmos_model_name_or_path, world, freeze)
        tokenizer = load_tokenizer(name_or_path, **hub_kwargs)
        plan = settings, add_world_tokens(tokenizer, settings.get("world_token", WORLD_PLACEHOLDER))

    leave_out = () if enable_world else EITHER_WAY
    if checked is not None:
        _check_keys(cls, name_or_path, checked, kwargs, hub_kwargs, leave_out)
    with _without_branch(cls, name_or_path) if loses_branch else nullcontext():
        model, info = _load_parent(parent_from_pretrained, name_or_path, *model_args, leave_out=leave_out, **kwargs)
    # transformers hands leftover keyword arguments to the generation config too; Gemma 3's has no such field.
    if (generation_config := getattr(model, "generation_config", None)) is not None:
        _drop(vars(generation_config), "world_config", "trainable_components")
    if plan is not None:
        fresh = _add_branch(model, name_or_path, *plan)
        info = {**info, "missing_keys": {*info["missing_keys"], *fresh}}
    if freeze is not None or enable_world:
        model.set_freeze(freeze or "projection")
    return (model, info) if kwargs.get("output_loading_info") else model


def _check_arguments(enable_world: Any, kwargs: dict[str, Any]) -> None:
    """Raise a `ValueError` for an argument that would not be heeded."""
    if enable_world is not None and not isinstance(enable_world, bool):
        raise ValueError(f"enable_world must be True or False, got {enable_world!r}")
    for name, fix in _MISPLACED.items():
        if name in kwargs:
            raise ValueError(f"from_pretrained takes no {name}; {fix}")


def _wants_branch(
    name_or_path: Any, asked: bool | None, cosmos: str | None, world: Any, *, has_branch: bool, is_gemma: bool
) -> bool:
    """Whether the model gets a world branch: as asked; unset, as it was saved.

    Gemma 3 gets one where a Cosmos repository is known: one that was named, or for a hub id the default.
    """
    is_known = cosmos is not None or (is_gemma and not is_folder(Path(str(name_or_path))))
    wanted = (has_branch or is_known) if asked is None else asked
    if not (cosmos or world):
        return wanted
    if not wanted:
        raise ValueError(
            "cosmos_model_name_or_path and world describe a world branch, which enable_world=False leaves out; "
            "leave the two out, or load with enable_world=True"
        )
    if has_branch:
        raise ValueError(
            f"{name_or_path}: the checkpoint has its own world branch; leave cosmos_model_name_or_path and world out"
        )
    return wanted


def check_name(name_or_path: Any) -> None:
    """Raise a `ValueError` unless this can name a checkpoint: a folder, or a hub id."""
    if not isinstance(name_or_path, (str, PathLike)) or not str(name_or_path):
        raise ValueError(f"{shown_name(name_or_path)!r} names no checkpoint; give a folder or a hub id")
    check_readable_path(name_or_path)


def _refuse_pickles(name_or_path: Any, kwargs: dict[str, Any]) -> None:
    if kwargs.get("use_safetensors") is False:
        raise ValueError(
            f"{one_line(name_or_path)}: use_safetensors=False would open a pickle, which is never done; leave it out"
        )
    if kwargs.get("gguf_file") is None and kwargs.get("state_dict") is None:
        kwargs["use_safetensors"] = True


def _adopt_config(
    name_or_path: Any, kwargs: dict[str, Any], hub_kwargs: dict[str, Any]
) -> tuple[Mapping[str, Any], bool]:
    """Make a config object among `kwargs` TheWorld's; return its values, and whether a pure Gemma 3 file has them."""
    given = kwargs.get("config")
    if isinstance(given, PreTrainedConfig):
        kwargs["config"] = TheWorldConfig.of(given)
        return kwargs["config"].to_dict(), False
    source = given or name_or_path
    try:
        values, _ = TheWorldConfig.read_values(source, **hub_kwargs)
    except OSError as error:
        raise not_reachable(source, error) from error
    return TheWorldConfig.adopt(values, source=str(source)), values.get("model_type") != TheWorldConfig.model_type


def _keep_branch_unquantised(kwargs: dict[str, Any]) -> None:
    """Leave the branch out of a quantisation that names no modules to leave out; a list of the user's own is theirs."""
    given = kwargs.get("quantization_config")
    if isinstance(given, dict):
        from transformers.quantizers import AutoQuantizationConfig

        given = AutoQuantizationConfig.from_dict(given)
    for name in ("llm_int8_skip_modules", "modules_to_not_convert"):  # bitsandbytes, and others
        if getattr(given, name, ()) is None:
            kwargs["quantization_config"] = copy.deepcopy(given)
            setattr(kwargs["quantization_config"], name, modules_left_unquantised())


def modules_left_unquantised() -> list[str]:
    """Names of the modules that a quantisation leaves alone unless it is told otherwise: the head and the branch."""
    return ["lm_head", *(prefix.rstrip(".") for prefix in EITHER_WAY)]


def _drop(values: dict[str, Any], *names: str) -> None:
    for name in names:
        values.pop(name, None)


def _leave_out(fields: tuple[str, ...], kwargs: dict[str, Any]) -> None:
    """Load without what the config says of the branch; a freeze stage that was saved with one is about the two."""
    for name in fields:
        if isinstance(kwargs.get("config"), PreTrainedConfig):
            setattr(kwargs["config"], name, None)
        else:
            kwargs[name] = None


@contextmanager
def _without_branch(cls: Any, name_or_path: Any) -> Iterator[None]:
    """Say in one line that a checkpoint's branch is left out: transformers would list each key that it passes over."""
    before = cls._keys_to_ignore_on_load_unexpected
    cls._keys_to_ignore_on_load_unexpected = [*(before or ()), *(f"^{re.escape(prefix)}" for prefix in EITHER_WAY)]
    try:
        yield
    finally:
        cls._keys_to_ignore_on_load_unexpected = before
    log.warning("%s: loaded without its world branch, as enable_world=False asks", one_line(name_or_path))


def _check_keys(
    cls: type,
    name_or_path: Any,
    checked: CheckedFolder,
    kwargs: dict[str, Any],
    hub_kwargs: dict[str, Any],
    leave_out: tuple[str, ...],
) -> None:
    """Hold the files' keys against the model's, from headers, before a weight is read.

    A caller who asks for the loading info gets to see missing and unexpected keys there.
    """
    if kwargs.get("output_loading_info") or kwargs.get("quantization_config") is not None or checked.is_quantised:
        return
    config = kwargs.get("config")
    if not isinstance(config, PreTrainedConfig):
        fields = set(TheWorldConfig.__dataclass_fields__) - {"dtype"}
        own = {key: value for key, value in kwargs.items() if key in fields}
        config = TheWorldConfig.from_pretrained(config or name_or_path, **hub_kwargs, **own)
    audit = audit_checkpoint(checked.weights, cls, config, key_mapping=kwargs.get("key_mapping"))
    require_matching_keys(audit, ignore_mismatched=bool(kwargs.get("ignore_mismatched_sizes")), leave_out=leave_out)


def _load_parent(
    parent_from_pretrained: Callable[..., Any],
    name_or_path: Any,
    *model_args: Any,
    leave_out: tuple[str, ...],
    **kwargs: Any,
) -> tuple[Any, dict[str, Any]]:
    """Load Gemma's part, and hold transformers' own account of it against the same rule: nothing is left random."""
    try:
        model, info = parent_from_pretrained(name_or_path, *model_args, **{**kwargs, "output_loading_info": True})
    except OSError as error:
        if is_folder(Path(str(name_or_path))):
            raise ValueError(f"{one_line(name_or_path)}: {summary(error)}") from error
        raise not_reachable(name_or_path, error) from error
    if not kwargs.get("output_loading_info") and name_or_path is not None:
        # A quantiser's own tensors may be left over; a lost weight may not.
        seen = {"missing_keys": info["missing_keys"]} if hasattr(model, "hf_quantizer") else info
        ignore = bool(kwargs.get("ignore_mismatched_sizes"))
        require_complete(name_or_path, seen, ignore_mismatched=ignore, leave_out=leave_out)
    return model, info


def _add_branch(model: Any, name_or_path: Any, settings: dict[str, Any], tokens: WorldTokenIds) -> list[str]:
    """Add the planned branch to a model; return the names of its parameters that no file holds."""
    layers = model.get_input_embeddings(), model.get_output_embeddings()
    if any(layer is not None and layer.weight.is_meta for layer in layers):
        raise ValueError(
            f"{one_line(name_or_path)}: device_map offloads the embedding, to which a new world branch adds rows; load "
            "without device_map, save_pretrained to a folder, and load that folder with device_map"
        )
    vae = load_vae(settings["cosmos_model_name_or_path"], dtype=model.dtype)
    world_config = WorldConfig.from_dict({**settings, **tokens.config_fields()})
    model.add_world_branch(WorldEncoder(vae), world_config, tokens.vocab_size)
    return [name for name, _ in model.named_parameters() if published_name(name).startswith(_FRESH)]


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
