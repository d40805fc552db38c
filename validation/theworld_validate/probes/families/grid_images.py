"""Vision-language models whose images are patches in a row with a grid: the Qwen-VL, GLM-V and related families."""

from typing import ClassVar

import numpy as np

from theworld_validate.probes.family import Image
from theworld_validate.probes.general import General
from theworld_validate.probes.general_fields import first_of
from theworld_validate.probes.probe import Inputs

_SIDE = 4  # merged patches, so that rows and columns are more than one


class GridImages(General):
    """An image is (T * h * w, C * t * p * p) patches, and its grid (T, h, w) before neighbours are merged."""

    model_types: ClassVar[tuple[str, ...]] = (
        "qwen2_vl",
        "qwen2_5_vl",
        "qwen3_vl",
        "qwen3_vl_moe",
        "qwen3_5",
        "qwen3_5_moe",
        "glm4v",
        "glm4v_moe",
        "glm46v",
        "glm_ocr",
    )

    decodes: ClassVar[bool] = False  # their positions are what `generate` keeps of the prompt's

    def image(self) -> Image:
        """One square image between its start and end tokens."""
        vision = self.config.vision_config
        merge, patch = vision.spatial_merge_size, vision.patch_size
        channels = first_of(vision, "in_channels", "in_chans", "num_channels", default=3)
        side = _SIDE * merge
        width = channels * first_of(vision, "temporal_patch_size", default=1) * patch * patch
        token = self.config.image_token_id
        around = [first_of(self.config, f"vision_{end}_token_id", f"image_{end}_token_id") for end in ("start", "end")]
        ids = [around[0], *[token] * (_SIDE * _SIDE), around[1]]
        return Image(
            ids=tuple(i for i in ids if i is not None),
            inputs={
                "pixel_values": self.random.standard_normal((side * side, width)).astype(np.float32),
                "image_grid_thw": np.array([[1, side, side]], dtype=np.int64),
            },
            image_token=token,
        )

    def other_inputs(self, inputs: Inputs, *, image: Image | None) -> Inputs:
        """Which tokens are of an image, where the forward wants to be told."""
        if image is None or "mm_token_type_ids" not in self.takes:
            return {}
        return {"mm_token_type_ids": (inputs["input_ids"] == image.image_token).astype(np.int64)}
