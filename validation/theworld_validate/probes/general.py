"""The general family: what any model of transformers is asked, from its config and the signature of its forward.

In: a config and its class. Out: probes of text, of text with images, of an encoder and a decoder, of images alone and
of sound; and what no probe could be built for.
"""

# B batch, L tokens, S samples

from typing import Any, ClassVar

import numpy as np

from theworld.checkpoints.error_text import summary
from theworld_validate.probes import general_fields as fields
from theworld_validate.probes.family import Asked, Family, Image
from theworld_validate.probes.labels import labels_for
from theworld_validate.probes.probe import Extra, Generation, Inputs, Probe
from theworld_validate.results import InputError

_TEXT, _DECODED, _BEYOND, _AFTER_IMAGE = 96, 8, 32, 24  # tokens
_BATCH = (40, 24, 9)  # tokens of its rows
_SAMPLES = 4_000
_OTHER_SENSES = {"input_features", "input_values", "input_audio_embeds", "audio_values"}
_GREEDY: tuple[Generation, ...] = ("greedy",)
_SAMPLED: tuple[Generation, ...] = ("greedy", "sampled")


class General(Family):
    """Probes for whatever `forward` takes; a family with special inputs overrides `image` or `other_inputs`."""

    # Whether a forward goes on from a cache when it is given the next token alone.
    decodes: ClassVar[bool] = True

    def build(self) -> Asked:
        unasked: list[str] = []
        if "input_ids" not in self.takes:
            return Asked(probes=(self._sensed(),))
        stand_beside = "pixel_values" in self.takes and self._image_token() is None
        probes = [] if stand_beside or "pixel_values" in self.needs else self._of_text()
        if "pixel_values" in self.takes:
            try:
                image = self.image()
                probes.append(self._with_image("image", image))
                if image.image_token is not None and len(probes) > 1:
                    probes.append(self._text_after_image())
            except Exception as error:  # whatever a class says of inputs that are not its own
                unasked.append(f"images: {type(error).__name__}: {summary(error)}")
        unasked += [f"{name}: no general probe has it" for name in sorted(_OTHER_SENSES & self.takes)]
        return Asked(probes=tuple(probes), unasked=tuple(unasked))

    def _of_text(self) -> list[Probe]:
        probes = [self._text("text", self._length(_TEXT), extras=self._extras(), generation=_SAMPLED)]
        if "attention_mask" in self.takes:
            probes.append(self._batch())
        window = fields.sliding_window(self.config)
        if window is not None and window + _BEYOND <= fields.longest_row(self.config) and not self._has_decoder:
            probes.append(self._text("beyond_window", window + _BEYOND))
        if self.decodes and {"past_key_values", "attention_mask", "use_cache"} <= self.takes and not self._has_decoder:
            probes.append(self._text("cached_decode", self._length(_TEXT), decode_steps=_DECODED))
        return probes

    def _text_after_image(self) -> Probe:
        """A text whose positions may go by what a model keeps of the image before."""
        embeds: tuple[Extra, ...] = ("embeds",) if "inputs_embeds" in self.takes else ()
        return self._text("text_after_image", self._length(_AFTER_IMAGE), extras=embeds)

    # What a family with special inputs overrides.

    def image(self) -> Image:
        """One image: its pixels, and the placeholders that stand for it in a prompt.

        Raises:
            Exception: whatever says that none can be built.
        """
        pixels = self.pixels()
        token = self._image_token()
        if token is None:  # images stand beside the text
            return Image(inputs={"pixel_values": pixels})
        count = self.count_image_tokens(pixels)
        return Image(ids=(token,) * count, inputs={"pixel_values": pixels}, image_token=token)

    def other_inputs(self, inputs: Inputs, *, image: Image | None) -> Inputs:  # noqa: ARG002 - for overriding
        """Further arguments of the forward that belong to a prompt."""
        return {}

    def senses(self) -> Inputs:
        """Arguments of a forward that takes no token ids: pixels, or sound."""
        if "pixel_values" in self.takes:
            return {"pixel_values": self.pixels()}
        if "input_values" in self.takes:
            return {"input_values": self.random.standard_normal((1, _SAMPLES)).astype(np.float32)}
        if "input_features" in self.takes:
            bins = fields.first_of(self.config, "num_mel_bins", "feature_size", "input_feat_per_channel", default=80)
            return {"input_features": self.random.standard_normal((1, 128, bins)).astype(np.float32)}
        named = ", ".join(sorted(self.takes))
        raise InputError(f"no general probe for a forward of ({named}); give your own with --probes MODULE:FUNCTION")

    def row(self, num_tokens: int) -> Probe:
        """One row of so many tokens of text, of the encoder and the decoder each, with an image where one is taken.

        Raises:
            Exception: whatever says that no image can be built.
        """
        ids = self.ids(num_tokens)
        if "pixel_values" not in self.takes:
            return self.make("row", self._prompt([ids], decoder_length=num_tokens))
        image = self.image()
        inputs = {**self._prompt([np.array([*image.ids, *ids], dtype=np.int64)]), **image.inputs}
        return self.make("row", inputs, image=image)

    # What they may use.

    def pixels(self) -> np.ndarray:
        """One image, (1, C, H, W), in [-1, 1]; of a size that the config names."""
        height, width = fields.side_of(
            fields.first_of(self.config, "vision_config.image_size", "image_size", "vision_config.img_size", default=32)
        )
        channels = fields.first_of(self.config, "vision_config.num_channels", "num_channels", default=3)
        return self.random.uniform(-1, 1, (1, channels, height, width)).astype(np.float32)

    def ids(self, length: int) -> np.ndarray:
        """Ordinary token ids, (length,); no special one is among them."""
        if not hasattr(self, "_ordinary"):
            highest = fields.vocab_size(self.config)
            self._ordinary = np.setdiff1d(np.arange(highest), list(fields.special_ids(self.config)))
        return self.random.choice(self._ordinary, length).astype(np.int64)

    def count_image_tokens(self, pixels: np.ndarray) -> int:
        """How many tokens the model's own code makes of an image, asked of an empty model."""
        import torch

        from theworld.checkpoints.key_renaming import build_on_meta

        model = build_on_meta(self.model_class, self.config).eval()
        found = getattr(model, "get_image_features", None) or getattr(model.base_model, "get_image_features", None)
        if found is None:
            raise InputError(f"{self.model_class.__name__} has no get_image_features to count an image's tokens with")
        with torch.no_grad():
            features = found(torch.empty(pixels.shape, dtype=next(model.parameters()).dtype, device="meta"))
        return _count_rows(features)

    def make(
        self,
        name: str,
        inputs: Inputs,
        *,
        image: Image | None = None,
        gradients: bool = False,
        decode_steps: int = 0,
        extras: tuple[Extra, ...] = (),
        generation: tuple[Generation, ...] = (),
    ) -> Probe:
        """A probe of these inputs, with the labels and the cache that the forward takes."""
        given = {**inputs, **self.other_inputs(inputs, image=image)}
        can_generate = getattr(self.model_class, "can_generate", lambda: False)()
        return Probe(
            name=name,
            inputs=given,
            labels=labels_for(self, given, image=image),
            use_cache=True if "use_cache" in self.takes else None,
            images_per_row=(1,) if image is not None else (),
            gradients=gradients,
            decode_steps=decode_steps,
            extras=extras,
            generation=generation if can_generate else (),
        )

    @property
    def _has_decoder(self) -> bool:
        return "decoder_input_ids" in self.takes

    def _image_token(self) -> int | None:
        return fields.first_of(self.config, "image_token_id", "image_token_index", "media_token_id")

    def _length(self, wanted: int) -> int:
        return min(wanted, fields.longest_row(self.config) // 2)

    def _extras(self) -> tuple[Extra, ...]:
        extras: list[Extra] = []
        if "inputs_embeds" in self.takes:
            extras.append("embeds")
        if "position_ids" in self.takes:
            extras.append("arguments")
        return tuple(extras)

    def _text(self, name: str, length: int, **asked: Any) -> Probe:
        return self.make(name, self._prompt([self.ids(length)]), gradients=True, **asked)

    def _batch(self) -> Probe:
        left = getattr(self.model_class, "can_generate", lambda: False)() and not self._has_decoder
        rows = [self.ids(length) for length in _BATCH]
        inputs = self._prompt(rows, pad_on_left=left)
        name = "left_padded_batch" if left else "right_padded_batch"
        return self.make(name, inputs, gradients=True, extras=("rows",), generation=_GREEDY)

    def _prompt(
        self, rows: "list[np.ndarray]", *, pad_on_left: bool = False, decoder_length: int | None = None
    ) -> Inputs:
        length = max(len(row) for row in rows)
        pad = fields.first_of(self.config, "text_config.pad_token_id", "pad_token_id", default=0)

        def padded(row: np.ndarray, filler: int) -> np.ndarray:
            padding = np.full(length - len(row), filler, dtype=np.int64)
            return np.concatenate([padding, row] if pad_on_left else [row, padding])

        inputs: Inputs = {"input_ids": np.stack([padded(row, max(pad, 0)) for row in rows])}
        if "attention_mask" in self.takes:
            inputs["attention_mask"] = np.stack([padded(np.ones(len(row), dtype=np.int64), 0) for row in rows])
        if self._has_decoder:
            inputs["decoder_input_ids"] = np.stack([self.ids(decoder_length or self._length(24)) for _ in rows])
        return inputs

    def _with_image(self, name: str, image: Image) -> Probe:
        around = self.ids(24)
        ids = np.concatenate([around[:12], np.array(image.ids, dtype=np.int64), around[12:]])
        inputs = {**self._prompt([ids]), **image.inputs}
        generation = _GREEDY if image.image_token is not None else ()
        return self.make(name, inputs, image=image, gradients=True, generation=generation)

    def _sensed(self) -> Probe:
        inputs = self.senses()
        first = next(iter(inputs))
        name = {"pixel_values": "pixels", "input_values": "sound", "input_features": "sound"}.get(first, first)
        if self._has_decoder:
            inputs["decoder_input_ids"] = np.stack([self.ids(self._length(24))])
        return self.make(name, inputs, gradients=True, generation=_GREEDY)


def _count_rows(features: Any) -> int:
    """Tokens of what `get_image_features` returned: a tensor, a list of them, or an output that holds one."""
    pooled = getattr(features, "pooler_output", None)
    features = features if pooled is None else pooled
    tensors = features if isinstance(features, (list, tuple)) else [features]
    return sum(int(tensor.numel()) // int(tensor.shape[-1]) for tensor in tensors)
