"""What `TheWorld` and its inner model share: loading, saving, freezing, counting.

A mixin for Gemma 3's classes, with or without a head.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from transformers import initialization

from theworld.clip_inputs import check_clip_inputs
from theworld.components import count_parameters, parameters_by_component
from theworld.configuration_theworld import WorldConfig
from theworld.freezing import FreezeConfig, apply_freeze, resolve_freeze
from theworld.published_names import with_parameter_names


class WorldPretrained:
    """Loads with `from_pretrained`, saves with `save_pretrained`, and freezes by component."""

    config: Any

    @classmethod
    def is_custom_code(cls) -> bool:
        """Whether `_init_weights` is of a user's own making: it is transformers' own, which heeds what is loaded."""
        return False

    def _init_weights(self, module: Any) -> None:
        """Initialise a fresh module: as Gemma 3, and the VAE's norms as diffusers does."""
        parent: Any = super()
        parent._init_weights(module)
        if type(module).__name__ == "WanRMS_norm":
            initialization.ones_(module.gamma)
            if not isinstance(module.bias, float | int):
                initialization.zeros_(module.bias)

    @property
    def enable_world(self) -> bool:
        """Whether the model has a world branch."""
        return self.config.world_config is not None

    @property
    def world_config(self) -> WorldConfig:
        """The world settings.

        Raises:
            ValueError: if the model has no world branch.
        """
        if not isinstance(self.config.world_config, WorldConfig):
            raise ValueError("this model has no world branch; load it with enable_world=True")
        return self.config.world_config

    def _has_clips(self, frames: Any, num_frames: Any, latents: Any) -> bool:
        """Whether there are clips: frames, or latents in their place.

        Raises:
            ValueError: if they are no tensors, or the model has no branch, or was told of frames of another size; or
                if there are numbers of frames alone.
        """
        if frames is None and latents is None:
            check_clip_inputs(None, num_frames, None)
            return False
        if not self.enable_world:
            raise ValueError("world_frames were given, and the world branch is off; load with enable_world=True")
        check_clip_inputs(frames, num_frames, latents)
        if frames is not None:
            self.config.world_config.check_frame_size(*frames.shape[-2:])
        return True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load Gemma 3 with or without a world branch, or a saved TheWorld checkpoint as it was saved.

        Args:
            pretrained_model_name_or_path: a Gemma 3 or TheWorld checkpoint: a folder or a hub id.
            enable_world: add the world branch, or load exactly Gemma 3. Unset, a checkpoint comes as it was saved, and
                a Gemma 3 one gets the branch if a Cosmos repository is known: named, or the default for a hub id.
            cosmos_model_name_or_path: the Cosmos repository whose VAE encodes frames.
            world: further fields of `WorldConfig`, as a dictionary (frame_size, max_world_steps, ...).
            freeze: a `FreezeConfig`, a preset's name, or the names of the components that train. Unset, it is as the
                checkpoint was saved, and "projection" where a branch is new.
            freeze_gemma_vision, freeze_gemma_language, freeze_cosmos_vae: shorthands for it.
            kwargs: everything that `Gemma3ForConditionalGeneration.from_pretrained` takes.

        Raises:
            ValueError: for contradictory arguments, or a checkpoint that cannot be read.
        """
        from theworld.loading import load_theworld

        freeze = resolve_freeze(
            kwargs.pop("freeze", None),
            freeze_gemma_vision=kwargs.pop("freeze_gemma_vision", None),
            freeze_gemma_language=kwargs.pop("freeze_gemma_language", None),
            freeze_cosmos_vae=kwargs.pop("freeze_cosmos_vae", None),
        )
        parent: Any = super()
        return load_theworld(
            cls,
            parent.from_pretrained,
            pretrained_model_name_or_path,
            *model_args,
            enable_world=kwargs.pop("enable_world", None),
            cosmos_model_name_or_path=kwargs.pop("cosmos_model_name_or_path", None),
            world=kwargs.pop("world", None),
            freeze=freeze,
            **kwargs,
        )

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """Load tensors as every module does, under the model's names or those of saved files.

        So `Trainer` goes on from its checkpoints, and takes the best one, with what was trained.
        """
        parent: Any = super()
        return parent.load_state_dict(with_parameter_names(cast("Any", self), state_dict), *args, **kwargs)

    def load_adapter(self, *args: Any, **kwargs: Any) -> Any:
        """Load an adapter as every model does, and never from a pickle: transformers would take one where it finds one.

        Whoever loads an adapter comes through here: a user, `from_pretrained` and `Trainer`.

        Raises:
            ValueError: if the adapter's weights are missing, or a pickle.
        """
        from theworld.adapter_files import use_safetensors_alone

        parent: Any = super()
        call = inspect.signature(parent.load_adapter).bind(*args, **kwargs)
        use_safetensors_alone(call.arguments)
        return parent.load_adapter(*call.args, **call.kwargs)

    def save_pretrained(self, save_directory: Any, *args: Any, trainable_only: bool = False, **kwargs: Any) -> None:
        """Save as Hugging Face models do; with `trainable_only`, only what trains and the base's name and digest.

        What is saved whole replaces a trainable-only checkpoint in the same folder; not the other way round.

        Raises:
            ValueError: if `trainable_only` is given with an argument that it would not heed, or for such a folder; or
                for an adapter whose base has not what was trained.
        """
        from theworld.adapters import check_base_is_whole, warn_of_unsaved_branch
        from theworld.partial_checkpoint import is_partial_checkpoint, remove_trainable, save_trainable

        if not trainable_only:
            if getattr(self, "_hf_peft_config_loaded", False) and is_partial_checkpoint(save_directory):
                raise ValueError(f"{save_directory}: holds a trainable-only checkpoint; save the adapter elsewhere")
            if getattr(self, "_hf_peft_config_loaded", False):
                check_base_is_whole(self, save_directory)
                warn_of_unsaved_branch(self, save_directory)
            self._note_trainable()
            parent: Any = super()
            parent.save_pretrained(save_directory, *args, **kwargs)
            if args[0] if args else kwargs.get("is_main_process", True):
                remove_trainable(Path(save_directory))
            return
        if args or kwargs:
            raise ValueError(
                f"trainable_only=True writes one small file and heeds no other argument; leave out "
                f"{', '.join(kwargs) or 'the positional arguments'}"
            )
        save_trainable(self, save_directory)

    def _note_trainable(self) -> None:
        """Note in the config which components train, so that loading gives it back; nothing for an unfrozen Gemma 3.

        Where nothing trains, what `set_freeze` noted stays: inference and merged adapters leave a model so, and it
        would come back unable to train.
        """
        model: Any = self
        shares = {
            name: {p.requires_grad for p in parameters.values()}
            for name, parameters in parameters_by_component(model).items()
        }
        if not any(True in share for share in shares.values()):
            return
        if any(len(share) > 1 for share in shares.values()):
            return  # an adapter's, or frozen by hand within a component: what `set_freeze` noted stays
        if self.enable_world or not all(True in share for share in shares.values()):
            self.config.trainable_components = [name for name, share in shares.items() if True in share]

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Resize as every model does, but not below the branch's own tokens.

        Raises:
            ValueError: if a world token would have no row: what is saved then could not be loaded.
        """
        if new_num_tokens is not None and self.enable_world:
            settings = self.world_config
            needed = 1 + max(settings.world_token_id, settings.start_of_world_token_id, settings.end_of_world_token_id)
            multiple = (args[0] if args else kwargs.get("pad_to_multiple_of")) or 1
            if -(-new_num_tokens // multiple) * multiple < needed:
                raise ValueError(
                    f"the world branch's tokens need {needed:,} rows of embeddings, got {new_num_tokens:,}; "
                    f"resize to {needed:,} or more, or load with enable_world=False"
                )
        parent: Any = super()
        return parent.resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def set_freeze(self, freeze: FreezeConfig | str | Sequence[str]) -> None:
        """Freeze and unfreeze components, and note it in the config; a frozen VAE goes to eval mode.

        Args:
            freeze: a `FreezeConfig`, a preset's name, or the names of the components that train.

        Raises:
            ValueError: for an unknown preset or component, or one that does not fit this model.
        """
        resolved = resolve_freeze(freeze)
        if resolved is None:
            raise ValueError("freeze must be a preset's name, a list of components, or a FreezeConfig, got None")
        model: Any = self
        apply_freeze(model, resolved)
        self.config.trainable_components = list(resolved.trainable)
        model.train(model.training)

    def get_trainable_parameters(self) -> tuple[int, int, float]:
        """Count (trainable, total, percentage); tied weights once."""
        model: Any = self
        counts = count_parameters(model)
        trainable, total = sum(c.trainable for c in counts), sum(c.total for c in counts)
        return trainable, total, 100.0 * trainable / total
