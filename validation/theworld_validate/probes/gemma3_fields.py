"""The fields of a Gemma 3 configuration that its probes are built from, checked.

In: a `Gemma3Config`. Out: `Fields`, all of them whole numbers in bounds; or an `InputError` of one line that names
the field. Whether a configuration is right as a whole is checked where a checkpoint is read.
"""

from dataclasses import dataclass
from typing import Any

from theworld_validate.results import InputError

MAX_TOKENS = 16_384  # of one row: its logits over 262,208 ids take 8.6 GB in bfloat16
MAX_IMAGE_SIZE = 2_048
_FEWEST_ORDINARY_IDS = 8  # below the first image token: what text is drawn from


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What probes need to know of a configuration.

    Args:
        bos, pad: ids that start a row, and that fill it up.
        boi, image_token, eoi: ids before, for and after an image's tokens; ordinary ids lie below the first.
        tokens_per_image: how many `image_token`s an image takes.
        image_size: pixels of an image's side.
        sliding_window: tokens that a sliding layer sees.
    """

    bos: int
    pad: int
    boi: int
    image_token: int
    eoi: int
    tokens_per_image: int
    image_size: int
    sliding_window: int

    @classmethod
    def read(cls, config: Any) -> "Fields":
        """Read and check them.

        Raises:
            InputError: with the field, what it is, and what it must be.
        """
        vocab = _whole(config, "text_config.vocab_size", 1, None)

        def token(name: str, lowest: int = 0) -> int:
            return _whole(config, name, lowest, vocab - 1, "a token id below vocab_size")

        return cls(
            bos=token("text_config.bos_token_id"),
            pad=token("text_config.pad_token_id"),
            boi=token("boi_token_index", _FEWEST_ORDINARY_IDS),
            image_token=token("image_token_index"),
            eoi=token("eoi_token_index"),
            tokens_per_image=_whole(config, "mm_tokens_per_image", 1, MAX_TOKENS),
            image_size=_whole(config, "vision_config.image_size", 1, MAX_IMAGE_SIZE),
            sliding_window=_whole(config, "text_config.sliding_window", 1, MAX_TOKENS),
        )


def check_length(num_tokens: int, field: str, value: int) -> None:
    """Refuse a probe that would be longer than `MAX_TOKENS`.

    Raises:
        InputError: with the field that makes it so long.
    """
    if num_tokens > MAX_TOKENS:
        raise InputError(
            f"config.json: {field} is {value:,}, which makes a probe of {num_tokens:,} tokens; "
            f"a probe has at most {MAX_TOKENS:,}"
        )


def _whole(config: Any, path: str, lowest: int, highest: int | None, what: str = "a whole number") -> int:
    value = config
    for name in path.split("."):
        value = getattr(value, name, None)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and lowest <= value and (highest is None or value <= highest):
        return value
    bounds = f"from {lowest:,} to {highest:,}" if highest is not None else f"of {lowest:,} or more"
    shown = repr(value)[:60]
    raise InputError(f"config.json: {path} is {shown}; probes need {what} {bounds}")
