"""Gemma 3's vision-language models, and TheWorld with its branch off."""

from theworld_validate.probes.family import Asked, Family
from theworld_validate.probes.gemma3 import build_probes


class Gemma3(Family):
    """Its probes reach past the sliding window, and have images in rows of text."""

    model_types = ("gemma3", "theworld")

    def build(self) -> Asked:
        return Asked(probes=build_probes(self.config, seed=self.seed))
