"""Why a checkpoint's keys are not the model's: the words that stand in them too much.

In: unexpected keys, and a test of whether a key is the model's. Out: such as "_orig_mod." or "layers.layers.".
torch.compile, DataParallel, FSDP and Trainers that nest a model each leave such words behind.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

_MAX_SAMPLE = 50
_MAX_WORDS = 3


def surplus_words(keys: Sequence[str], is_known: Callable[[str], bool]) -> str | None:
    """The words without which most of `keys` would be known, followed by a dot; None if there are none."""
    sample = [key for key in keys if len(key) < 1000][:: max(1, len(keys) // _MAX_SAMPLE)]
    labels: Counter[str] = Counter()
    for key in sample:
        labels.update({label for label, shorter in _shortened(key) if is_known(shorter)})
    if not labels:
        return None
    label, count = min(labels.most_common(), key=lambda item: (-item[1], len(item[0]), item[0]))
    return label if 2 * count > len(sample) else None


def _shortened(key: str) -> Iterator[tuple[str, str]]:
    words = key.split(".")[:32]
    for word in dict.fromkeys(words[:-1]):
        yield f"{word}.", ".".join(w for w in words if w != word)
    for length in range(1, _MAX_WORDS + 1):
        for start in range(len(words) - length):
            taken = words[start : start + length]
            before = words[max(0, start - length) : start]
            if before == taken or start == 0:
                yield ".".join([*before, *taken, ""]), ".".join(words[:start] + words[start + length :])
