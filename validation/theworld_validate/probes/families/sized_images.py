"""Vision-language models that are told each image's size in pixels: Mistral 3 and LightOnOCR."""

from typing import ClassVar

import numpy as np

from theworld_validate.probes.family import Image
from theworld_validate.probes.general import General
from theworld_validate.probes.general_fields import first_of
from theworld_validate.probes.probe import Inputs


class SizedImages(General):
    """Pixels with `image_sizes` (I, 2); neighbouring patches are merged."""

    model_types: ClassVar[tuple[str, ...]] = ("mistral3", "lighton_ocr")

    def image(self) -> Image:
        """One image, as large as the vision tower takes."""
        pixels = self.pixels()
        sizes = np.array([pixels.shape[-2:]], dtype=np.int64)
        inputs: Inputs = {"pixel_values": pixels, "image_sizes": sizes}
        vision, token = self.config.vision_config, self.config.image_token_id
        merged = vision.patch_size * first_of(self.config, "spatial_merge_size", default=1)
        count = (pixels.shape[-2] // merged) * (pixels.shape[-1] // merged)
        return Image(ids=(token,) * count, inputs=inputs, image_token=token)
