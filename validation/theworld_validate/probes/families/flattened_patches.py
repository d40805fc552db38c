"""Models that take an image as a row of patches, each behind its row and column: Pix2Struct."""

from typing import ClassVar

import numpy as np

from theworld_validate.probes.general import General
from theworld_validate.probes.probe import Inputs

_ROWS, _COLUMNS, _PADDING = 3, 4, 2  # patches


class FlattenedPatches(General):
    """An image is (1, patches, 2 + C * p * p): places count from 1, and what is padded is zero."""

    model_types: ClassVar[tuple[str, ...]] = ("pix2struct",)

    def senses(self) -> Inputs:
        """One image, with padding behind it."""
        width = self.config.vision_config.patch_embed_hidden_size
        places = np.stack(np.meshgrid(np.arange(1, _ROWS + 1), np.arange(1, _COLUMNS + 1), indexing="ij"), axis=-1)
        count = _ROWS * _COLUMNS
        patches = np.zeros((1, count + _PADDING, 2 + width), dtype=np.float32)
        patches[0, :count, :2] = places.reshape(count, 2)
        patches[0, :count, 2:] = self.random.standard_normal((count, width))
        mask = (np.arange(count + _PADDING) < count).astype(np.float32)
        return {"flattened_patches": patches, "attention_mask": mask[None]}
