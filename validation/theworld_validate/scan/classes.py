"""Which classes a scan is about, and their tiny checkpoints: the work that is done in a worker.

In: nothing, or a class's name. Out: answers: names, and where a checkpoint was written or why not.
"""

from collections.abc import Iterator
from pathlib import Path

from theworld_validate.results import InputError, Scalar
from theworld_validate.workers.messages import Answer, Message

LIST = "theworld_validate.scan.classes:list_classes"
WRITE = "theworld_validate.scan.classes:write_class"
# Of transformers' tables by task: those whose models people wrap.
_TASKS = (
    "CAUSAL_LM",
    "IMAGE_TEXT_TO_TEXT",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "SPEECH_SEQ_2_SEQ",
    "IMAGE_CLASSIFICATION",
    "MASKED_LM",
    "CTC",
)


def list_classes() -> Iterator[Message]:
    """Answer with the names of all classes of these tasks, each once."""
    from transformers.models.auto import modeling_auto

    names: dict[str, None] = {}
    for task in _TASKS:
        for found in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").values():
            names |= dict.fromkeys([found] if isinstance(found, str) else found)
    listed: list[Scalar] = [*names]
    yield Answer(values={"names": listed})


def write_class(name: str, folder: str, *, seed: int) -> Iterator[Message]:
    """Write a tiny checkpoint, and answer None; or why there is none."""
    from theworld_validate.subjects.tiny_models import write_tiny

    try:
        write_tiny(name, Path(folder), seed=seed)
    except InputError as error:
        yield Answer(values={"why_not": str(error)})
        return
    yield Answer(values={"why_not": None})
