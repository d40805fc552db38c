"""Vision-language models that take several tiles an image, of which one is enough: Idefics 2 and 3, SmolVLM."""

from typing import ClassVar

from theworld_validate.probes.family import Image
from theworld_validate.probes.general import General
from theworld_validate.probes.general_fields import first_of, side_of


class TiledImages(General):
    """Pixels are (B, tiles, C, H, W); a tile's patches are pooled, by a resampler or in squares."""

    model_types: ClassVar[tuple[str, ...]] = ("idefics2", "idefics3", "smolvlm")

    def image(self) -> Image:
        """One image of one tile."""
        vision = self.config.vision_config
        height, width = side_of(vision.image_size)
        patches = (height // vision.patch_size) * (width // vision.patch_size)
        count = first_of(self.config, "perceiver_config.resampler_n_latents")
        if count is None:
            count = patches // self.config.scale_factor**2
        token = self.config.image_token_id
        return Image(ids=(token,) * count, inputs={"pixel_values": self.pixels()[:, None]}, image_token=token)
