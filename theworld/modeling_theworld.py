"""TheWorld: Gemma 3 with its head, whose prompt may hold world tokens, made from video latents.

In: Gemma 3's inputs, and `world_frames` for the rows whose `input_ids` hold world placeholders. Out: Gemma 3's
outputs. With the branch off, the inner model is Gemma 3's own.
"""

# B batch, F frames, K clips a row, D hidden size

from typing import Any, Unpack

import torch
from transformers import Gemma3ForConditionalGeneration, GenerationMixin
from transformers.utils import TransformersKwargs

from theworld.configuration_theworld import TheWorldConfig, WorldConfig
from theworld.generation_rules import check_not_chunked, with_suppressor
from theworld.levers.memory_levers import MemoryLevers
from theworld.rollout_config import Rollout, RolloutConfig
from theworld.world_model import TheWorldModel, add_world_branch, keep_to_present_classes
from theworld.world_pretrained import WorldPretrained

# transformers picks the loss by the class's name, and cannot know this one's.
LOSS_TYPE = "ForConditionalGeneration"
_CLIPS = ("world_frames", "world_num_frames", "world_latents")


class TheWorld(WorldPretrained, MemoryLevers, Gemma3ForConditionalGeneration, GenerationMixin):
    """Gemma 3 with an optional world branch; load it with `from_pretrained`."""

    config_class = TheWorldConfig
    config: Any

    def __init__(self, config: Any) -> None:
        config = TheWorldConfig.of(config)
        super().__init__(config)
        self.loss_type = LOSS_TYPE
        if isinstance(config.world_config, WorldConfig):
            TheWorldModel.around(self.model)
            self.post_init()
        keep_to_present_classes(self)

    @property
    def world_encoder(self) -> Any:
        """The inner model's `WorldEncoder`."""
        return self.model.world_encoder

    @property
    def world_projection(self) -> Any:
        """The inner model's `WorldProjection`."""
        return self.model.world_projection

    @property
    def temporal_embedding(self) -> Any:
        """The inner model's `TemporalEmbedding`; None if it has none."""
        return self.model.temporal_embedding

    def add_world_branch(self, world_encoder: Any, world_config: WorldConfig, vocab_size: int) -> None:
        """Add a world branch: see `theworld.world_model.add_world_branch`."""
        add_world_branch(self, world_encoder, world_config, vocab_size)

    def get_world_features(
        self,
        world_frames: torch.Tensor | None,
        world_num_frames: torch.Tensor | None = None,
        world_latents: torch.Tensor | None = None,
        num_world_steps: int = 0,
        rollout: RolloutConfig | None = None,
    ) -> torch.Tensor:
        """Encode frames to world tokens: see `TheWorldModel.get_world_features`."""
        return self.model.get_world_features(world_frames, world_num_frames, world_latents, num_world_steps, rollout)

    def roll_out(
        self,
        world_frames: torch.Tensor | None = None,
        world_num_frames: torch.Tensor | None = None,
        world_latents: torch.Tensor | None = None,
        *,
        num_world_steps: int,
        rollout: RolloutConfig | None,
    ) -> Rollout:
        """Have Cosmos predict what follows each clip: see `TheWorldModel.roll_out`."""
        self._has_clips(world_frames, world_num_frames, world_latents)
        return self.model.roll_out(
            world_frames, world_num_frames, world_latents, num_world_steps=num_world_steps, rollout=rollout
        )

    def release_world_model(self) -> None:
        """Let go of what predicts, and of its memory; the next rollout loads it again."""
        if self.enable_world:
            self.model.release_world_model()

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
        world_latents: torch.Tensor | None = None,
        num_world_steps: int = 0,
        rollout: RolloutConfig | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyrefly: ignore[bad-function-definition]
    ) -> Any:
        """Run Gemma 3 on a prompt whose world placeholders are filled from `world_frames`.

        Args:
            world_frames: (B, 3, F, height, width), a clip a row, or (B, K, 3, F, height, width), K clips a row, in the
                order of their placeholders; float, in [-1, 1]; F = 1 + 4k.
            world_num_frames: (B,) or (B, K), how many of the F frames each clip uses, 0 for none; all by default.
            world_latents: in place of frames, what `world_encoder` makes of them: see `get_world_features`.
            num_world_steps, rollout: latent steps to predict after each clip's, and how: see `TheWorldModel.roll_out`.
                The prompt holds their placeholders too: give the processor the same number.

        The other arguments, and the outputs, are those of `Gemma3ForConditionalGeneration.forward`.

        Raises:
            ValueError: if frames and placeholders do not match, or frames are out of range.
        """
        has_clips = self._has_clips(world_frames, world_num_frames, world_latents)
        clips: dict[str, Any] = {}
        if has_clips:  # Gemma 3's own inner model takes no such arguments
            clips = {
                "world_frames": world_frames,
                "world_num_frames": world_num_frames,
                "world_latents": world_latents,
            }
            if num_world_steps:
                clips |= {"num_world_steps": num_world_steps, "rollout": rollout}
        inputs: dict[str, Any] = {
            "input_ids": input_ids,
            "pixel_values": pixel_values,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "token_type_ids": token_type_ids,
            "inputs_embeds": inputs_embeds,
            "use_cache": use_cache,
            **clips,
            **kwargs,
        }
        if labels is not None and self._chunked_loss is not None:
            return self._forward_chunked(labels, **inputs)
        return super().forward(labels=labels, logits_to_keep=logits_to_keep, **inputs)

    def generate(  # pyrefly: ignore[bad-override]
        self,
        inputs: torch.Tensor | None = None,
        generation_config: Any = None,
        logits_processor: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Generate as every model does; with `num_world_steps`, Cosmos looks ahead once, before.

        Where the branch is on, the world placeholder is never decoded: it could not be read again without a clip.

        Raises:
            ValueError: for clips whose prompt would be cut into chunks, or a rollout that cannot be made.
        """
        check_not_chunked(kwargs, generation_config, self.generation_config)
        if self.enable_world:
            logits_processor = with_suppressor(logits_processor, self.world_config.world_token_id)
        num_world_steps, rollout = kwargs.pop("num_world_steps", 0), kwargs.pop("rollout", None)
        if num_world_steps:
            clips = [kwargs.pop(name, None) for name in _CLIPS]
            rolled = self.roll_out(*clips, num_world_steps=num_world_steps, rollout=rollout)
            kwargs |= {"world_latents": rolled.world_latents, "world_num_frames": rolled.world_num_frames}
        given = (inputs, generation_config, logits_processor, *args)
        return super().generate(*given, **kwargs)  # pyrefly: ignore[bad-argument-type]

    def prepare_inputs_for_generation(  # pyrefly: ignore[bad-override]
        self,
        input_ids: Any,
        use_cache: bool = True,
        is_first_iteration: bool | None = False,
        inputs_embeds: Any = None,  # by its name, generate knows that embeddings may be given
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Prepare one step's inputs; frames go with the prompt, and not with the tokens decoded after it.

        An assistant's prompt is no first iteration, and holds placeholders all the same; a prompt that goes on from a
        cache is a first iteration, and its placeholders are in the cache.
        """
        model_inputs = super().prepare_inputs_for_generation(
            input_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        past = model_inputs.get("past_key_values")
        goes_on = not is_first_iteration or (past is not None and past.get_seq_length() > 0)
        if use_cache and goes_on and not self._has_placeholders(model_inputs.get("input_ids")):
            for name in _CLIPS:
                model_inputs.pop(name, None)
        return model_inputs

    def _has_placeholders(self, input_ids: torch.Tensor | None) -> bool:
        if input_ids is None or input_ids.shape[1] == 1 or not self.enable_world:
            return False
        return bool((input_ids == self.world_config.world_token_id).any())
