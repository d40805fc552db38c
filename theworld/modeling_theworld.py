"""TheWorld: Gemma 3 whose prompt may hold world tokens, made from video latents.

In: Gemma 3's inputs, and `world_frames` for the rows whose `input_ids` hold world placeholders. Out:
Gemma 3's outputs. With the branch off, every call goes straight to the parent class.
"""

# B batch, F frames, T latent steps, N tokens a step, L prompt length, D hidden size

from typing import Any

import torch
from transformers import Gemma3ForConditionalGeneration
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.utils import torch_compilable_check

from theworld.components import count_parameters
from theworld.configuration_theworld import TEMPORAL_COMPRESSION, TheWorldConfig, WorldConfig
from theworld.freezing import FreezeConfig, apply_freeze, resolve_freeze
from theworld.levers.memory_levers import MemoryLevers
from theworld.world_encoder import WorldEncoder
from theworld.world_projection import TemporalEmbedding, WorldProjection

# transformers renames the hub's keys by model type: TheWorld's files are named as Gemma 3's are.
register_checkpoint_conversion_mapping(
    TheWorldConfig.model_type, get_checkpoint_conversion_mapping("gemma3") or [], overwrite=True
)

# transformers picks the loss by the class's name, and cannot know this one's.
LOSS_TYPE = "ForConditionalGeneration"


class TheWorld(MemoryLevers, Gemma3ForConditionalGeneration):
    """Gemma 3 with an optional world branch; load it with `from_pretrained`."""

    config_class = TheWorldConfig
    _no_split_modules = [*(Gemma3ForConditionalGeneration._no_split_modules or ()), "WorldEncoder"]
    config: Any

    def __init__(self, config: TheWorldConfig) -> None:
        super().__init__(config)
        self.loss_type = LOSS_TYPE
        if isinstance(config.world_config, WorldConfig):
            self._attach_world_branch(WorldEncoder.from_vae_config(config.world_config.vae_config))
            # What Gemma's constructor did for its own modules, and again for the two that were added.
            self.post_init()

    def _attach_world_branch(self, world_encoder: WorldEncoder) -> None:
        """Add the three modules that `config.world_config` describes."""
        world_config, hidden_size = self.world_config, self.config.text_config.hidden_size
        self.world_encoder = world_encoder
        self.world_projection = WorldProjection(hidden_size)
        self.temporal_embedding = (
            TemporalEmbedding(world_config.max_world_steps, hidden_size)
            if world_config.use_temporal_embedding
            else None
        )

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

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load Gemma 3 with or without a world branch, or a saved TheWorld checkpoint.

        Args:
            pretrained_model_name_or_path: a Gemma 3 or TheWorld checkpoint: a folder or a hub id.
            enable_world: add the world branch (default), or load exactly Gemma 3.
            cosmos_model_name_or_path: the Cosmos repository whose VAE encodes frames.
            world: further fields of `WorldConfig`, as a dictionary (frame_size, max_world_steps, ...).
            freeze: a `FreezeConfig` or the name of a preset; "projection" where the branch is on.
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
        return load_theworld(
            cls,
            super().from_pretrained,
            pretrained_model_name_or_path,
            *model_args,
            enable_world=kwargs.pop("enable_world", True),
            cosmos_model_name_or_path=kwargs.pop("cosmos_model_name_or_path", None),
            world=kwargs.pop("world", None),
            freeze=freeze,
            **kwargs,
        )

    def save_pretrained(self, save_directory: Any, *args: Any, trainable_only: bool = False, **kwargs: Any) -> None:
        """Save as Hugging Face models do; with `trainable_only`, only what trains and the base's name and digest."""
        if not trainable_only:
            super().save_pretrained(save_directory, *args, **kwargs)
            return
        from theworld.partial_checkpoint import save_trainable

        save_trainable(self, save_directory)

    def add_world_branch(self, world_encoder: WorldEncoder, world_config: WorldConfig, vocab_size: int) -> None:
        """Add a world branch to a loaded Gemma 3, on the device and in the dtype of its embedding.

        Args:
            vocab_size: the tokenizer's length with the two added tokens: the embedding is resized to it.
        """
        self.resize_token_embeddings(vocab_size, mean_resizing=False)
        self.config.world_config = world_config
        self._attach_world_branch(world_encoder)
        weight = self.get_input_embeddings().weight
        for name in ("world_encoder", "world_projection", "temporal_embedding"):
            module = getattr(self, name)
            if module is None:
                continue
            if name != "world_encoder":
                for child in module.children():
                    self._init_weights(child)
            module.to(device=weight.device, dtype=weight.dtype)
            module.train(self.training)
            if (device_map := self.__dict__.get("hf_device_map")) is not None:
                device_map[name] = weight.device

    def set_freeze(self, freeze: FreezeConfig | str) -> None:
        """Freeze and unfreeze components; a frozen VAE goes to eval mode.

        Raises:
            ValueError: for an unknown preset, or one that does not fit this model.
        """
        resolved = resolve_freeze(freeze)
        if resolved is None:
            raise ValueError("freeze must be a FreezeConfig or the name of a preset, got None")
        apply_freeze(self, resolved)
        self.train(self.training)

    def get_trainable_parameters(self) -> tuple[int, int, float]:
        """Count (trainable, total, percentage); tied weights once."""
        counts = count_parameters(self)
        trainable, total = sum(c.trainable for c in counts), sum(c.total for c in counts)
        return trainable, total, 100.0 * trainable / total

    def get_world_features(
        self, world_frames: torch.Tensor, world_num_frames: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encode frames to world tokens, in the order in which placeholders are filled.

        Args:
            world_frames: (B, 3, F, height, width), in [-1, 1].
            world_num_frames: (B,), how many of the F frames each row uses (0 for none); all by default.
                The VAE is causal in time, so frames after a row's last do not change its latents.

        Returns:
            (number of world tokens, D).
        """
        tokens_BTND = self.world_projection(self.world_encoder(world_frames))
        if self.temporal_embedding is not None:
            tokens_BTND = self.temporal_embedding(tokens_BTND)
        if world_num_frames is None:
            return tokens_BTND.flatten(0, 2)
        num_steps_B = (world_num_frames.to(tokens_BTND.device) + TEMPORAL_COMPRESSION - 1) // TEMPORAL_COMPRESSION
        steps_T = torch.arange(tokens_BTND.shape[1], device=tokens_BTND.device)
        return tokens_BTND[steps_T < num_steps_B[:, None]].flatten(0, 1)

    def _embed_with_world(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None,
        world_frames: torch.Tensor,
        world_num_frames: torch.Tensor | None,
        image_outputs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embed a prompt, with image and world features in their places: (B, L, D), and the image features."""
        embeds_BLD = self.get_input_embeddings()(input_ids)
        image_features = None
        if image_outputs is None and pixel_values is not None:
            image_outputs = self.model.get_image_features(pixel_values, return_dict=True)
        if image_outputs is not None:
            image_features = image_outputs.pooler_output.to(embeds_BLD.device, embeds_BLD.dtype)
            image_mask = self.model.get_placeholder_mask(input_ids, embeds_BLD, image_features)
            embeds_BLD = embeds_BLD.masked_scatter(image_mask, image_features)
        world_features = self.get_world_features(world_frames, world_num_frames)
        world_mask_BL = self._world_mask(input_ids, num_world_tokens=world_features.shape[0])
        world_features = world_features.to(embeds_BLD.device, embeds_BLD.dtype)
        return embeds_BLD.masked_scatter(world_mask_BL[..., None], world_features), image_features

    def _world_mask(self, input_ids: torch.Tensor, *, num_world_tokens: int) -> torch.Tensor:
        mask_BL = input_ids == self.world_config.world_token_id
        num_placeholders = mask_BL.sum()
        torch_compilable_check(
            num_placeholders == num_world_tokens,
            lambda: (
                f"world_frames make {num_world_tokens} world tokens and input_ids hold {num_placeholders} placeholders "
                f"({self.world_config.world_token!r}); make both with the same TheWorldProcessor"
            ),
        )
        return mask_BL

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        world_frames: torch.Tensor | None = None,
        world_num_frames: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run Gemma 3 on a prompt whose world placeholders are filled from `world_frames`.

        Args:
            world_frames: (B, 3, F, height, width), float, in [-1, 1]; F = 1 + 4k; one clip a row.
            world_num_frames: (B,), how many of the F frames each row uses; all by default.

        The other arguments, and the outputs, are those of `Gemma3ForConditionalGeneration.forward`.

        Raises:
            ValueError: if frames and placeholders do not match, or frames are out of range.
        """
        image_features = None
        if world_frames is not None:
            if input_ids is None:
                raise ValueError("world_frames need input_ids, which hold their placeholders; inputs_embeds do not")
            if not self.enable_world:
                raise ValueError("world_frames were given, and the world branch is off; load with enable_world=True")
            image_outputs = (kwargs.pop("mm_encoder_outputs", None) or {}).get("image")
            inputs_embeds, image_features = self._embed_with_world(
                input_ids, pixel_values, world_frames, world_num_frames, image_outputs
            )
            input_ids = pixel_values = None
        elif self.enable_world and input_ids is not None and input_ids.shape[1] > 1:
            self._world_mask(input_ids, num_world_tokens=0)
        inputs = {
            "input_ids": input_ids,
            "pixel_values": pixel_values,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "token_type_ids": token_type_ids,
            "inputs_embeds": inputs_embeds,
            "use_cache": use_cache,
            **kwargs,
        }
        if labels is not None and self._chunked_loss is not None:
            outputs = self._forward_chunked(labels, **inputs)
        else:
            outputs = super().forward(labels=labels, logits_to_keep=logits_to_keep, **inputs)
        if image_features is not None and hasattr(outputs, "image_hidden_states"):
            outputs.image_hidden_states = image_features
        return outputs

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, use_cache: bool = True, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Prepare one step's inputs; frames go with the prompt, and not with the tokens decoded after it."""
        model_inputs = super().prepare_inputs_for_generation(
            input_ids, use_cache=use_cache, is_first_iteration=is_first_iteration, **kwargs
        )
        if use_cache and not is_first_iteration:
            model_inputs.pop("world_frames", None)
            model_inputs.pop("world_num_frames", None)
        return model_inputs
