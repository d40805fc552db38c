"""The inner model: Gemma 3 without its head, whose prompt may hold world tokens made from video latents.

In: Gemma 3's inputs, and `world_frames` for the rows whose prompt holds world placeholders. Out: Gemma 3's hidden
states. Whatever calls the inner model by itself (trainers, assisted decoding, pipelines) sees the world too.
"""

# B batch, F frames, T latent steps, N tokens a step, L prompt length, D hidden size

import warnings
from typing import Any, Unpack

import torch
from torch import nn
from transformers import Gemma3Model
from transformers.models.gemma3.modeling_gemma3 import Gemma3ModelOutputWithPast
from transformers.utils import TransformersKwargs, can_return_tuple, torch_compilable_check

from theworld.checkpoints.vae_rules import TEMPORAL_COMPRESSION, num_latent_steps
from theworld.clip_inputs import check_clip_inputs
from theworld.configuration_theworld import TheWorldConfig, WorldConfig
from theworld.published_names import INNER, WORLD_MODULES, register_renamings, world_renamings
from theworld.rollout_config import Rollout, RolloutConfig, check_num_world_steps
from theworld.world_encoder import WorldEncoder
from theworld.world_pretrained import WorldPretrained
from theworld.world_projection import TemporalEmbedding, WorldProjection
from theworld.world_rollout import CosmosWorldModel, extend_latents

# The VAE keeps what it has seen in lists that its modules change: accelerate's hooks must not copy those.
_LISTS_OF_THE_VAE = ("feat_cache", "feat_idx")


class TheWorldModel(WorldPretrained, Gemma3Model):
    """Gemma 3 without its head, with an optional world branch; `TheWorld` holds one where its branch is on."""

    config_class = TheWorldConfig
    config: Any
    _world_model: CosmosWorldModel | None = None  # no module: not counted, saved, trained, nor in the state dict

    def __init__(self, config: Any) -> None:
        config = TheWorldConfig.of(config)
        super().__init__(config)
        self._build_branch()

    @classmethod
    def around(cls, model: Gemma3Model) -> "TheWorldModel":
        """Make a `Gemma3Model` one of these, with the branch that its config describes; its modules stay its own."""
        model.__class__ = cls
        assert isinstance(model, cls)
        model._build_branch()
        return model

    def _build_branch(self) -> None:
        if isinstance(self.config.world_config, WorldConfig):
            self.attach_branch(WorldEncoder.from_vae_config(self.config.world_config.vae_config))
            # What Gemma's constructor did for its own modules, and again for those that were added.
            self.post_init()
        keep_to_present_classes(self)

    def attach_branch(self, world_encoder: WorldEncoder) -> None:
        """Add the three modules that `config.world_config` describes."""
        world_config, hidden_size = self.config.world_config, self.config.text_config.hidden_size
        self.world_encoder = world_encoder
        self.world_projection = WorldProjection(hidden_size, world_config.latent_channels)
        self.temporal_embedding = (
            TemporalEmbedding(world_config.max_world_steps, hidden_size)
            if world_config.use_temporal_embedding
            else None
        )
        self._no_split_modules = {*(self._no_split_modules or ()), type(world_encoder).__name__}
        self._skip_keys_device_placement = {*(self._skip_keys_device_placement or ()), *_LISTS_OF_THE_VAE}

    def add_world_branch(self, world_encoder: WorldEncoder, world_config: WorldConfig, vocab_size: int) -> None:
        """Add a world branch: see `theworld.world_model.add_world_branch`."""
        add_world_branch(self, world_encoder, world_config, vocab_size)

    def add_branch(self, world_encoder: WorldEncoder) -> None:
        """Add the branch to a model that is loaded, on the device and in the dtype of its embedding."""
        self.attach_branch(world_encoder)
        keep_to_present_classes(self)
        weight = self.get_input_embeddings().weight
        for name in WORLD_MODULES:
            module = getattr(self, name)
            if module is None:
                continue
            if name != "world_encoder":
                for child in module.children():
                    self._init_weights(child)
            module.to(device=weight.device, dtype=weight.dtype)
            module.train(self.training)

    def get_world_features(
        self,
        world_frames: torch.Tensor | None,
        world_num_frames: torch.Tensor | None = None,
        world_latents: torch.Tensor | None = None,
        num_world_steps: int = 0,
        rollout: RolloutConfig | None = None,
    ) -> torch.Tensor:
        """Encode frames, or project latents, to world tokens, in the order in which placeholders are filled.

        Args:
            world_frames: (B, 3, F, height, width), in [-1, 1]: a clip a row; or (B, K, 3, F, height, width), K clips.
            world_num_frames: (B,) or (B, K), how many of the F frames each clip uses (0 for none); all by default.
                The VAE is causal in time, so frames after a clip's last do not change its latents.
            world_latents: in place of frames, what `world_encoder` makes of them: (B, C, T, H, W), a clip a row; or
                (B, K, C, T, H, W), K clips.
            num_world_steps, rollout: predict so many latent steps after each clip's, as `rollout` says.

        Returns:
            (number of world tokens, D).

        Raises:
            ValueError: unless either frames or latents are given, or for a rollout that cannot be made.
        """
        check_clip_inputs(world_frames, world_num_frames, world_latents)
        if num_world_steps:
            rolled = self.roll_out(
                world_frames, world_num_frames, world_latents, num_world_steps=num_world_steps, rollout=rollout
            )
            world_latents, world_num_frames = rolled.world_latents, rolled.world_num_frames
        else:
            world_latents = self._latents_of(world_frames, world_latents)
        latents_BCTHW = world_latents.flatten(0, 1) if world_latents.ndim == 6 else world_latents
        tokens_BTND = self.world_projection(latents_BCTHW)
        if self.temporal_embedding is not None:
            tokens_BTND = self.temporal_embedding(tokens_BTND)
        if world_num_frames is None:
            return tokens_BTND.flatten(0, 2)
        num_steps_B = num_latent_steps(world_num_frames.flatten().to(tokens_BTND.device))
        steps_T = torch.arange(tokens_BTND.shape[1], device=tokens_BTND.device)
        return tokens_BTND[steps_T < num_steps_B[:, None]].flatten(0, 1)

    def _check_num_steps(self, num_steps: int) -> None:
        """Refuse a clip with more steps than there are temporal embeddings, before the VAE encodes it."""
        if self.temporal_embedding is not None:
            self.temporal_embedding.check_num_steps(num_steps)

    def _latents_of(self, world_frames: torch.Tensor | None, world_latents: torch.Tensor | None) -> torch.Tensor:
        if (world_frames is None) == (world_latents is None):
            raise ValueError("give either world_frames or world_latents, which the VAE made of them")
        if world_frames is None:
            assert world_latents is not None
            channels, shape = self.config.world_config.latent_channels, tuple(world_latents.shape)
            if shape[-4] != channels:
                raise ValueError(
                    f"world_latents must have shape (batch, {channels}, steps, height, width), got {shape}"
                )
            return world_latents
        self._check_num_steps(num_latent_steps(world_frames.shape[-3]))
        if world_frames.ndim != 6:
            return self.world_encoder(world_frames)
        return self.world_encoder(world_frames.flatten(0, 1)).unflatten(0, world_frames.shape[:2])

    def roll_out(
        self,
        world_frames: torch.Tensor | None = None,
        world_num_frames: torch.Tensor | None = None,
        world_latents: torch.Tensor | None = None,
        *,
        num_world_steps: int,
        rollout: RolloutConfig | None,
    ) -> Rollout:
        """Have Cosmos predict what follows each clip.

        Args:
            world_frames, world_num_frames, world_latents: the observed clips, as `get_world_features` takes them.
            num_world_steps: latent steps to predict, of 4 frames each.
            rollout: a prompt, a seed, a safety checker, and how many denoising steps.

        Returns:
            Latents that the model takes as `world_latents`, with their `world_num_frames`: the observed ones are the
            encoder's own. And the guardrails that looked at it.

        Raises:
            ValueError: for more steps than `max_world_steps`, or a rollout that cannot be made.
        """
        if rollout is None:
            raise ValueError("num_world_steps needs rollout=RolloutConfig(prompt=..., safety_checker=...)")
        self._has_clips(world_frames, world_num_frames, world_latents)
        settings = self.config.world_config
        check_num_world_steps(num_world_steps, most=settings.max_world_steps - 1)
        if world_frames is None or world_latents is not None:
            latents = self._latents_of(world_frames, world_latents)
        else:  # each clip alone: the VAE's bits depend on its batch, and what is predicted from them with them
            alone = [self._latents_of(clip[None], None) for clip in world_frames.flatten(0, -5)]
            latents = torch.cat(alone).unflatten(0, world_frames.shape[:-4])
        if world_num_frames is None:
            num_frames = 1 + TEMPORAL_COMPRESSION * (latents.shape[-3] - 1)
            world_num_frames = torch.full(latents.shape[:-4], num_frames, device=latents.device)
        num_steps_B = num_latent_steps(world_num_frames.flatten())
        check_num_world_steps(num_world_steps, most=settings.max_world_steps - int(num_steps_B.max()))
        # The encoder's dtype, and not that of latents that were handed in.
        world_model = self._world_model_of(rollout, self.world_encoder.vae.encoder.conv_in.weight.dtype)
        guardrails = world_model.check_text(rollout, latents.device)
        extended_BCTHW = extend_latents(world_model, latents.flatten(0, -5), num_steps_B, num_world_steps, rollout)
        added = TEMPORAL_COMPRESSION * num_world_steps * (world_num_frames > 0)
        return Rollout(
            world_latents=extended_BCTHW.unflatten(0, latents.shape[:-4]),
            world_num_frames=world_num_frames + added,
            guardrails=guardrails,
        )

    def _world_model_of(self, rollout: RolloutConfig, dtype: torch.dtype) -> CosmosWorldModel:
        """The world model that is asked for: that of the last rollout, if it was the same."""
        name = rollout.cosmos_model_name_or_path or self.config.world_config.cosmos_model_name_or_path
        if name is None:
            raise ValueError(
                "the model does not say where its VAE is from; name what predicts: "
                "RolloutConfig(cosmos_model_name_or_path=...)"
            )
        if self._world_model is None or not self._world_model.is_for(name, dtype):
            self._world_model = None  # let go of the old one first
            self._world_model = CosmosWorldModel(name, dict(self.world_encoder.vae.config), dtype)
        return self._world_model

    def release_world_model(self) -> None:
        """Let go of what predicts, and of its memory; the next rollout loads it again."""
        self._world_model = None

    def _world_mask(
        self, input_ids: torch.Tensor | None, embeds_BLD: torch.Tensor | None, *, num_world_tokens: int
    ) -> torch.Tensor:
        """Where world placeholders are, (B, L): by their ids, or by their embedding where there are no ids."""
        world_config = self.config.world_config
        if input_ids is not None:
            mask_BL = input_ids == world_config.world_token_id
        else:
            assert embeds_BLD is not None
            token = torch.tensor(world_config.world_token_id, device=embeds_BLD.device)
            mask_BL = (embeds_BLD == self.get_input_embeddings()(token)).all(-1)
        num_placeholders = mask_BL.sum()
        torch_compilable_check(
            num_placeholders == num_world_tokens,
            lambda: (
                f"world_frames make {num_world_tokens} world tokens and the prompt holds {num_placeholders} "
                f"placeholders ({world_config.world_token!r}); make both with one TheWorldProcessor, which was "
                "loaded with world_config=model.world_config"
            ),
        )
        return mask_BL

    def _with_images(
        self, input_ids: torch.Tensor | None, embeds_BLD: torch.Tensor, pixel_values: Any, encoder_outputs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Put image features in their places, as Gemma 3's forward does; also return them."""
        if encoder_outputs is None and pixel_values is not None:
            encoder_outputs = self.get_image_features(pixel_values, return_dict=True)
        if encoder_outputs is None:
            return embeds_BLD, None
        features = encoder_outputs.pooler_output.to(embeds_BLD.device, embeds_BLD.dtype)
        ids: Any = input_ids  # Gemma 3's annotation leaves None out, and its code does not
        mask = self.get_placeholder_mask(ids, embeds_BLD, features)
        return embeds_BLD.masked_scatter(mask, features), features

    def _embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        if self.config.image_token_id >= self.vocab_size:  # as Gemma 3's forward does
            input_ids = input_ids.masked_fill(input_ids == self.config.image_token_id, 0)
        return self.get_input_embeddings()(input_ids)

    def _touch_branch(self, embeds_BLD: torch.Tensor) -> torch.Tensor:
        """Let a batch without clips reach the branch all the same, with gradients of zero.

        Gradients and gathered weights are exchanged by all processes or by none; and where nothing but the branch
        trains, a loss that does not depend on it has no backward pass. One latent cell goes through the branch and is
        added with weight zero, so that gradients are zero, as they truly are, and every collective call is met.
        """
        side = self.config.world_config.spatial_compression
        cell = torch.zeros(1, 3, 1, side, side, device=embeds_BLD.device)
        return embeds_BLD + self.get_world_features(cell).sum().to(embeds_BLD.device, embeds_BLD.dtype) * 0

    def _must_touch_branch(self) -> bool:
        """Whether a batch without clips has to reach the branch: for other processes, or to train at all."""
        if not torch.is_grad_enabled():
            return False
        if _is_one_of_many():
            return True
        if any(parameter.requires_grad for parameter in self.language_model.parameters()):
            return False
        branch = [module for name in WORLD_MODULES if (module := getattr(self, name)) is not None]
        return any(parameter.requires_grad for module in branch for parameter in module.parameters())

    def _warn_of_frozen_projection(self) -> None:
        """Say that clips train nothing of the branch, where the freeze stage means them to: PEFT freezes silently."""
        if not self.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        meant = "world_projection" in (self.config.trainable_components or ())
        if meant and not any(parameter.requires_grad for parameter in self.world_projection.parameters()):
            warnings.warn(
                "world_projection is frozen, and the model's freeze stage trains it; an adapter library froze it: "
                "give it modules_to_save=['world_projection', 'temporal_embedding'], or set another freeze stage",
                stacklevel=2,
            )

    @can_return_tuple
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
        mm_encoder_outputs: dict[str, Any] | None = None,
        world_frames: torch.Tensor | None = None,
        world_num_frames: torch.Tensor | None = None,
        world_latents: torch.Tensor | None = None,
        num_world_steps: int = 0,
        rollout: RolloutConfig | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyrefly: ignore[bad-function-definition]
    ) -> Any:
        """Run Gemma 3 on a prompt whose world placeholders are filled from `world_frames`.

        Args:
            world_frames: (B, 3, F, height, width) or (B, K, 3, F, height, width), float, in [-1, 1]; F = 1 + 4k.
            world_num_frames: (B,) or (B, K), how many of the F frames each clip uses, 0 for none; all by default.
            world_latents: in place of frames, what `world_encoder` makes of them: see `get_world_features`.
            num_world_steps, rollout: latent steps to predict after each clip's, and how: see `roll_out`.

        The other arguments, and the outputs, are those of `Gemma3Model.forward`.

        Raises:
            ValueError: if frames and placeholders do not match, frames are out of range, or there is no branch.
        """
        has_clips = self._has_clips(world_frames, world_num_frames, world_latents)
        has_branch = self.enable_world
        if has_branch and not has_clips and input_ids is not None and input_ids.shape[1] > 1:
            self._world_mask(input_ids, None, num_world_tokens=0)
        image_features = None
        touches_branch = has_branch and not has_clips and self.training and self._must_touch_branch()
        if has_clips or touches_branch:
            if (input_ids is None) == (inputs_embeds is None):
                raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
            embeds = inputs_embeds if input_ids is None else self._embed(input_ids)
            assert embeds is not None
            images = (mm_encoder_outputs or {}).get("image")
            filled, image_features = self._with_images(input_ids, embeds, pixel_values, images)
            if has_clips:
                self._warn_of_frozen_projection()
                features = self.get_world_features(
                    world_frames, world_num_frames, world_latents, num_world_steps, rollout
                )
                mask_BL = self._world_mask(input_ids, embeds, num_world_tokens=features.shape[0])
                filled = filled.masked_scatter(mask_BL[..., None], features.to(filled.device, filled.dtype))
            else:
                filled = self._touch_branch(filled)
            input_ids, pixel_values, inputs_embeds, mm_encoder_outputs = None, None, filled, None
        outputs = super().forward(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            mm_encoder_outputs=mm_encoder_outputs,
            return_dict=True,
            **kwargs,
        )
        assert isinstance(outputs, Gemma3ModelOutputWithPast)
        if image_features is not None:
            outputs.image_hidden_states = image_features
        return outputs


register_renamings(TheWorldConfig.model_type, TheWorldModel.__name__)


def _is_one_of_many() -> bool:
    """Whether there are several processes, whose gradients are put together."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def add_world_branch(model: Any, world_encoder: WorldEncoder, world_config: WorldConfig, vocab_size: int) -> None:
    """Add a world branch to a loaded model, with a head or without, on the device and in the dtype of its embedding.

    Args:
        vocab_size: the tokenizer's length with the two added tokens: the embedding is resized to it.
    """
    model.resize_token_embeddings(vocab_size, mean_resizing=False)
    inner = model if isinstance(model, TheWorldModel) else TheWorldModel.around(model.model)
    model.config.world_config = world_config
    inner.add_branch(world_encoder)
    for names in ("_no_split_modules", "_skip_keys_device_placement"):
        setattr(model, names, {*(getattr(model, names) or ()), *getattr(inner, names)})
    keep_to_present_classes(model)
    # transformers saves by the renamings that loading used, and Gemma 3's files had no use for these.
    loaded_by = getattr(model, "_weight_conversions", None)
    if loaded_by is not None and inner is not model:
        model._weight_conversions = [*loaded_by, *world_renamings()]
    if (device_map := model.__dict__.get("hf_device_map")) is not None:
        prefix = "" if inner is model else INNER
        device = inner.get_input_embeddings().weight.device
        device_map.update({prefix + name: device for name in WORLD_MODULES if getattr(inner, name) is not None})


def keep_to_present_classes(model: nn.Module) -> None:
    """Let `_no_split_modules` name only classes of the model: sharding by class fails on any other."""
    present = {type(module).__name__ for module in model.modules()}
    own: Any = model
    own._no_split_modules = {name for name in own._no_split_modules or () if name in present}
