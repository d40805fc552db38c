"""The three tokens of the world branch, and what a tokenizer gives them as ids.

In: a Gemma tokenizer. Out: the ids and the vocabulary length that the model and the processor share.
"""

from dataclasses import dataclass
from typing import Any

START_OF_WORLD = "<start_of_world>"
END_OF_WORLD = "<end_of_world>"
WORLD_PLACEHOLDER = "<unused0>"  # one of Gemma's own unused tokens: no third row is added


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldTokenIds:
    """Ids of the world tokens, and the number of embedding rows that a model needs for them."""

    start: int
    end: int
    placeholder: int
    vocab_size: int

    def config_fields(self) -> dict[str, int]:
        """The fields of `WorldConfig` that hold these ids."""
        return {
            "world_token_id": self.placeholder,
            "start_of_world_token_id": self.start,
            "end_of_world_token_id": self.end,
        }


def add_world_tokens(tokenizer: Any, placeholder: str = WORLD_PLACEHOLDER) -> WorldTokenIds:
    """Add the start and end tokens to `tokenizer` (once) and look the three ids up.

    Args:
        tokenizer: a Gemma tokenizer; changed in place.
        placeholder: an existing token that stands for one world token in a prompt.

    Raises:
        ValueError: if the tokenizer has no such placeholder token.
    """
    placeholder_id = tokenizer.get_vocab().get(placeholder)
    if placeholder_id is None:
        raise ValueError(
            f"the tokenizer has no token {placeholder!r} to stand for world tokens; "
            "name one of its unused tokens as world_token (Gemma 3 has <unused0> to <unused6241>)"
        )
    # The placeholder has its id already: listing it makes the tokenizer match it whole.
    specials = [START_OF_WORLD, END_OF_WORLD, placeholder]
    tokenizer.add_special_tokens({"extra_special_tokens": specials}, replace_extra_special_tokens=False)
    start, end = tokenizer.convert_tokens_to_ids([START_OF_WORLD, END_OF_WORLD])
    return WorldTokenIds(start=start, end=end, placeholder=placeholder_id, vocab_size=len(tokenizer))
