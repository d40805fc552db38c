"""Configuration: Gemma 3's own, and the world settings in one sub-config.

In: a Gemma 3 or TheWorld config dictionary. Out: a `TheWorldConfig`; `world_config` is None where the
world branch is off, and then every other value is Gemma 3's.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import Gemma3Config

from theworld.world_tokens import WORLD_PLACEHOLDER

LATENT_CHANNELS = 16  # z_dim of the Wan 2.1 VAE that Cosmos-Predict2 uses
SPATIAL_COMPRESSION = 8  # pixels per latent cell, each way
TEMPORAL_COMPRESSION = 4  # frames per latent step, after the first frame


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """Settings of the world branch. All fields are checked; a wrong one is a `ValueError`.

    Args:
        vae_config: the config of `diffusers.AutoencoderKLWan`, with z_dim 16.
        cosmos_model_name_or_path: where the VAE came from.
        frame_size: height and width, in pixels, that the processor gives frames; a multiple of 8.
        max_world_steps: rows of the temporal embedding: the most latent time steps in one clip.
        use_temporal_embedding: False leaves the temporal embedding out of the model.
        world_token: the tokenizer's token that stands for one world token in a prompt.
        world_token_id, start_of_world_token_id, end_of_world_token_id: ids in that tokenizer.
    """

    vae_config: dict[str, Any]
    cosmos_model_name_or_path: str | None = None
    frame_size: int = 224
    max_world_steps: int = 32
    use_temporal_embedding: bool = True
    world_token: str = WORLD_PLACEHOLDER
    world_token_id: int = 6
    start_of_world_token_id: int = 262_145
    end_of_world_token_id: int = 262_146

    def __post_init__(self) -> None:
        if not isinstance(self.vae_config, dict):
            raise ValueError(f"world_config.vae_config must be a dictionary, got {self.vae_config!r}")
        for name in ("frame_size", "max_world_steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"world_config.{name} must be a positive whole number, got {value!r}")
        if self.frame_size % SPATIAL_COMPRESSION:
            lower = max(self.frame_size // SPATIAL_COMPRESSION, 1) * SPATIAL_COMPRESSION
            raise ValueError(
                f"world_config.frame_size must be a multiple of {SPATIAL_COMPRESSION}, got {self.frame_size}; "
                f"{lower} or {lower + SPATIAL_COMPRESSION} would do"
            )
        if type(self.use_temporal_embedding) is not bool:
            raise ValueError(
                f"world_config.use_temporal_embedding must be true or false, got {self.use_temporal_embedding!r}"
            )
        if not isinstance(self.world_token, str) or not self.world_token:
            raise ValueError(f"world_config.world_token must be a token's text, got {self.world_token!r}")
        ids = [self.world_token_id, self.start_of_world_token_id, self.end_of_world_token_id]
        if any(type(i) is not int or i < 0 for i in ids) or len(set(ids)) != 3:
            raise ValueError(f"world_config's three token ids must be different whole numbers, got {ids}")
        z_dim = self.vae_config.get("z_dim", LATENT_CHANNELS)
        if z_dim != LATENT_CHANNELS:
            where = (
                f"{self.cosmos_model_name_or_path}: its VAE's config.json"
                if self.cosmos_model_name_or_path
                else ("world_config.vae_config")
            )
            raise ValueError(
                f"{where}: z_dim is {z_dim}, and TheWorld's projection takes {LATENT_CHANNELS} channels; "
                "use a Cosmos-Predict2 (Wan 2.1) VAE"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "WorldConfig":
        """Build from a dictionary, as stored in config.json.

        Raises:
            ValueError: for an unknown field, or a value that the class refuses.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"world_config has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        if "vae_config" not in values:
            raise ValueError("world_config.vae_config is missing: it describes the VAE to build")
        return cls(**values)

    def tokens_per_step(self) -> int:
        """World tokens that one latent time step of a `frame_size` clip becomes."""
        return (self.frame_size // SPATIAL_COMPRESSION) ** 2


@strict
class TheWorldConfig(Gemma3Config):
    """Gemma 3's configuration with `world_config`: a `WorldConfig`, a dictionary of one, or None (branch off)."""

    model_type = "theworld"

    world_config: WorldConfig | dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if isinstance(self.world_config, dict):
            self.world_config = WorldConfig.from_dict(self.world_config)

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> tuple[dict[str, Any], dict]:
        """Read a config dictionary; a Gemma 3 one is taken as TheWorld's with the branch off.

        Raises:
            ValueError: if the checkpoint is of another architecture.
        """
        values, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        return cls.adopt(values, source=str(pretrained_model_name_or_path)), kwargs

    @classmethod
    def adopt(cls, values: dict[str, Any], *, source: str) -> dict[str, Any]:
        """Return `values`, of a Gemma 3 or TheWorld config, as those of a TheWorld config."""
        found = values.get("model_type")
        if found not in (Gemma3Config.model_type, cls.model_type):
            raise ValueError(
                f"{source}/config.json: model_type is {found!r}, and TheWorld is built on "
                f"'{Gemma3Config.model_type}'; give a Gemma 3 vision-language checkpoint"
            )
        return {**values, "model_type": cls.model_type}

    def to_dict(self) -> dict[str, Any]:
        """Serialise; `world_config` is left out where the branch is off."""
        values = super().to_dict()
        values.pop("world_config", None)
        if isinstance(self.world_config, WorldConfig):
            values["world_config"] = asdict(self.world_config)
        return values
