"""Whisper: a log-mel spectrogram of the one length that its encoder takes."""

from typing import ClassVar

import numpy as np

from theworld_validate.probes.general import General
from theworld_validate.probes.probe import Inputs

_STRIDE = 2  # of the encoder's second convolution


class Whisper(General):
    """Sound is (B, mel bins, frames)."""

    model_types: ClassVar[tuple[str, ...]] = ("whisper",)

    def senses(self) -> Inputs:
        """One spectrogram."""
        shape = (1, self.config.num_mel_bins, _STRIDE * self.config.max_source_positions)
        return {"input_features": self.random.standard_normal(shape).astype(np.float32)}
