"""Configuration: Gemma 3's own, and the world settings in one sub-config.

In: a Gemma 3 or TheWorld config dictionary. Out: a `TheWorldConfig`; `world_config` is None where the
world branch is off, and then every other value is Gemma 3's.
"""

import copy
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import Gemma3Config

from theworld.checkpoints.bounded_files import check_readable_path, is_folder, read_json_object
from theworld.checkpoints.configuration_rules import check_builds, check_gemma3_config
from theworld.checkpoints.error_text import one_line, shown_name
from theworld.checkpoints.vae_rules import check_vae_config, latent_shape
from theworld.components import COMPONENT_NAMES
from theworld.world_sizes import DEFAULT_FRAME_SIZE, MAX_FRAME_SIZE, MAX_WORLD_STEPS
from theworld.world_tokens import WORLD_PLACEHOLDER

_MAX_TOKEN_ID = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """Settings of the world branch. All fields are checked; a wrong one is a `ValueError`.

    Args:
        vae_config: the config of `diffusers.AutoencoderKLWan`: it decides channels and sides of latents.
        cosmos_model_name_or_path: where the VAE came from.
        frame_size: height and width, in pixels, of frames; a multiple of `spatial_compression`. Any but the default
            binds: frames of another size are refused. A processor loaded from the saved model's folder takes it over.
        max_world_steps: rows of the temporal embedding: the most latent time steps in one clip.
        use_temporal_embedding: False leaves the temporal embedding out of the model.
        world_token: the tokenizer's token that stands for one world token in a prompt.
        world_token_id, start_of_world_token_id, end_of_world_token_id: ids in that tokenizer.
    """

    vae_config: dict[str, Any]
    cosmos_model_name_or_path: str | None = None
    frame_size: int = DEFAULT_FRAME_SIZE
    max_world_steps: int = 32
    use_temporal_embedding: bool = True
    world_token: str = WORLD_PLACEHOLDER
    world_token_id: int = 6
    start_of_world_token_id: int = 262_145
    end_of_world_token_id: int = 262_146

    def __post_init__(self) -> None:
        if not isinstance(self.vae_config, dict):
            raise ValueError(f"world_config.vae_config must be a dictionary, got {shown_name(self.vae_config)}")
        for name, highest in (("frame_size", MAX_FRAME_SIZE), ("max_world_steps", MAX_WORLD_STEPS)):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"world_config.{name} must be a positive whole number, got {shown_name(repr(value))}")
            if value > highest:
                raise ValueError(f"world_config.{name} must be at most {highest:,}, got {value:,}")
        if type(self.use_temporal_embedding) is not bool:
            raise ValueError(
                f"world_config.use_temporal_embedding must be true or false, "
                f"got {shown_name(repr(self.use_temporal_embedding))}"
            )
        if not isinstance(self.world_token, str) or not self.world_token:
            shown = shown_name(repr(self.world_token))
            raise ValueError(f"world_config.world_token must be a token's text, got {shown}")
        ids = [self.world_token_id, self.start_of_world_token_id, self.end_of_world_token_id]
        if any(type(i) is not int or not 0 <= i < _MAX_TOKEN_ID for i in ids) or len(set(ids)) != 3:
            raise ValueError(f"world_config's three token ids must be different whole numbers, got {shown_name(ids)}")
        cosmos = self.cosmos_model_name_or_path
        if cosmos is not None and (not isinstance(cosmos, str) or not cosmos):
            raise ValueError(
                f"world_config.cosmos_model_name_or_path must be a folder or a hub id, got {shown_name(repr(cosmos))}"
            )
        where = f"{one_line(cosmos)}: its VAE's config.json" if cosmos else "world_config.vae_config"
        check_vae_config(self.vae_config, where=where)
        cell = self.spatial_compression
        if self.frame_size % cell:
            lower = max(self.frame_size // cell, 1) * cell
            raise ValueError(
                f"world_config.frame_size must be a multiple of {cell}, got {self.frame_size}; "
                f"{lower} or {lower + cell} would do"
            )

    @property
    def latent_channels(self) -> int:
        """Channels of a latent cell, as the VAE's config says."""
        return latent_shape(self.vae_config).channels

    @property
    def spatial_compression(self) -> int:
        """Pixels a latent cell, each way, as the VAE's config says."""
        return latent_shape(self.vae_config).spatial_compression

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "WorldConfig":
        """Build from a dictionary, as stored in config.json.

        Raises:
            ValueError: for an unknown field, or a value that the class refuses.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            named = ", ".join(map(shown_name, unknown[:3]))
            raise ValueError(f"world_config has no field {named}; it has {', '.join(sorted(known))}")
        if "vae_config" not in values:
            raise ValueError("world_config.vae_config is missing: it describes the VAE to build")
        return cls(**values)

    @property
    def binds_frame_size(self) -> bool:
        """Whether a frame size was chosen, so that frames of another are refused."""
        return self.frame_size != DEFAULT_FRAME_SIZE

    def check_frame_size(self, height: int, width: int) -> None:
        """Refuse frames of another size than the one that was chosen; the default is no choice.

        Raises:
            ValueError: with both remedies.
        """
        if self.binds_frame_size and (height, width) != (self.frame_size, self.frame_size):
            raise ValueError(
                f"world_frames are {height} x {width}, and the model was loaded for frames of {self.frame_size}; load "
                f"the processor with frame_size={self.frame_size}, or the model with world={{'frame_size': {height}}}"
            )

    def tokens_per_step(self) -> int:
        """World tokens that one latent time step of a `frame_size` clip becomes."""
        return (self.frame_size // self.spatial_compression) ** 2


@strict
class TheWorldConfig(Gemma3Config):
    """Gemma 3's configuration, and what TheWorld adds to it.

    Args:
        world_config: a `WorldConfig`, a dictionary of one, or None (branch off).
        trainable_components: the components that train, as `set_freeze` left them; None where none was ever frozen.
    """

    model_type = "theworld"
    _OBJECTS = ("text_config", "vision_config")

    world_config: WorldConfig | dict[str, Any] | None = None
    trainable_components: list[str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.trainable_components is not None:
            self._check_trainable()

    def __setattr__(self, key: str, value: Any) -> None:
        """Set a field; a dictionary of a `WorldConfig`, as `update` and loaders set, becomes one.

        Raises:
            ValueError: for a dictionary that describes none.
        """
        if key == "world_config" and isinstance(value, dict):
            value = WorldConfig.from_dict(value)
        super().__setattr__(key, value)

    def _check_trainable(self) -> None:
        unknown = sorted(set(self.trainable_components or ()) - set(COMPONENT_NAMES))
        if unknown:
            raise ValueError(
                f"trainable_components names {shown_name(unknown[0])}, which is no component; "
                f"there are {', '.join(COMPONENT_NAMES)}"
            )

    @property
    def auto_map(self) -> dict[str, str]:
        """Classes of code beside a checkpoint, by Auto class: none, unless they were set.

        Here, because libraries ask it of every config whose class is not transformers' own.
        """
        return self.__dict__.setdefault("auto_map", {})

    @auto_map.setter
    def auto_map(self, classes: dict[str, str]) -> None:
        self.__dict__["auto_map"] = classes

    @classmethod
    def of(cls, config: Any) -> "TheWorldConfig":
        """A TheWorld config of what a constructor was given: itself, or a `Gemma3Config`'s values, branch off.

        Raises:
            ValueError: if it is of another architecture.
        """
        if isinstance(config, cls):
            return config
        if not isinstance(config, Gemma3Config):
            raise ValueError(f"config is a {type(config).__name__}, and TheWorld is built on Gemma3Config")
        values = {key: value for key, value in config.to_dict().items() if key not in cls._OBJECTS}
        parts = {name: copy.deepcopy(getattr(config, name)) for name in cls._OBJECTS}
        fields_of_both: dict[str, Any] = {**values, **parts, "model_type": cls.model_type}
        made = cls(**fields_of_both)
        made.name_or_path = config.name_or_path
        for one, other in ((made, config), *((getattr(made, part), getattr(config, part)) for part in cls._OBJECTS)):
            one._attn_implementation = other._attn_implementation  # a dictionary does not hold it
        return made

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> tuple[dict[str, Any], dict]:
        """Read a config dictionary; a Gemma 3 one is taken as TheWorld's with the branch off.

        Raises:
            ValueError: if the checkpoint is of another architecture, or a field is out of range.
        """
        values, kwargs = cls.read_values(pretrained_model_name_or_path, **kwargs)
        return cls.adopt(values, source=str(pretrained_model_name_or_path)), kwargs

    @classmethod
    def read_values(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> tuple[dict[str, Any], dict]:
        """Read a config dictionary as it is written, of any architecture.

        Raises:
            ValueError: if the file cannot be read.
        """
        path = Path(os.fspath(pretrained_model_name_or_path))
        check_readable_path(path)
        if is_folder(path):
            # Strictly, before transformers reads it: a FIFO, a device or a broken file is named here.
            read_json_object(path / (kwargs.get("subfolder") or "") / "config.json")
        return super().get_config_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def adopt(cls, values: dict[str, Any], *, source: str) -> dict[str, Any]:
        """Return `values`, of a Gemma 3 or TheWorld config, as those of a TheWorld config.

        Raises:
            ValueError: if they are of another architecture, or a field is out of range; config.json is named.
        """
        found = values.get("model_type")
        if found not in (Gemma3Config.model_type, cls.model_type):
            raise ValueError(
                f"{source}/config.json: model_type is {shown_name(repr(found))}, and TheWorld is built on "
                f"'{Gemma3Config.model_type}'; give a Gemma 3 vision-language checkpoint"
            )
        where = f"{source}/config.json"
        check_gemma3_config(values, where=where)
        adopted = {**values, "model_type": cls.model_type}
        check_builds(cls, adopted, where=where)
        return adopted

    def to_dict(self) -> dict[str, Any]:
        """Serialise; `world_config` and `trainable_components` are left out where they are None."""
        values = super().to_dict()
        values.pop("world_config", None)
        if not values.get("auto_map"):
            values.pop("auto_map", None)
        if self.trainable_components is None:
            values.pop("trainable_components", None)
        if isinstance(self.world_config, WorldConfig):
            values["world_config"] = asdict(self.world_config)
        return values
