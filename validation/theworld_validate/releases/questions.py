"""What every release is asked: made once, with the running environment, in a worker.

In: a subject, and a folder. Out: in the folder, probes and the config that a fresh model is built from; for a small
Gemma 3 also the same weights with a window that is shorter than an image, which shows how attention inside of an
image meets the window: published checkpoints have a longer one. An answer names the probes.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import one_line
from theworld_validate.parity.questions import questions_of
from theworld_validate.probes.probe import Probe
from theworld_validate.releases.probe_files import write_probes
from theworld_validate.results import InputError, Scalar
from theworld_validate.subjects.architectures import architecture_of
from theworld_validate.subjects.checkpoints import folder_of, weight_bytes_of
from theworld_validate.subjects.subject import Subject
from theworld_validate.subjects.tiny_models import small_config
from theworld_validate.workers.messages import Answer, Message

QUESTIONS = "theworld_validate.releases.questions:write_questions"
PROBES, CONFIG, NARROW, NARROW_PROBES = "probes.npz", "config", "narrow", "narrow.npz"
_SMALL_BYTES = 64 * 2**20  # a checkpoint up to this size is built anew as it is; a larger one in small
_NARROW_PROBE = "image_beyond_window"


def write_questions(subject: Subject, folder: str) -> Iterator[Message]:
    """Write what is asked into a folder; answer with their names, what loads the checkpoint, and its size.

    Raises:
        InputError: if the checkpoint cannot be used, or is not on this machine.
    """
    place = Path(folder)
    asked = questions_of(subject, ())
    write_probes(asked.probes, place / PROBES)
    found = architecture_of(subject.checkpoint)
    source = folder_of(subject.checkpoint, download=False)
    num_bytes = weight_bytes_of(subject.checkpoint)
    if source is None or num_bytes is None:
        name = one_line(subject.checkpoint)
        raise InputError(f"{name}: not on this machine, and releases run without network; run hf download {name} first")
    is_small = num_bytes <= _SMALL_BYTES
    names: list[Scalar] = [probe.name for probe in asked.probes]
    (place / CONFIG).mkdir()
    if is_small:
        (place / CONFIG / "config.json").write_bytes((source / "config.json").read_bytes())
        if subject.probes is None:
            names += _write_narrow(source, asked.probes, place)
    else:
        small_config(type(found.config)).save_pretrained(place / CONFIG)
    yield Answer(values={"probes": names, "target": found.base_target, "is_small": is_small})


def _write_narrow(source: Path, probes: tuple[Probe, ...], place: Path) -> list[Scalar]:
    """Write the checkpoint once more with half an image as its window, and the probe that it is asked."""
    image = next((probe for probe in probes if probe.name == "image"), None)
    values: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tokens = values.get("mm_tokens_per_image")
    if (
        values.get("model_type") != "gemma3"
        or image is None
        or not isinstance(tokens, int)
        or not isinstance(values.get("text_config"), dict)
    ):
        return []
    folder = place / NARROW
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.name != "config.json":
            (folder / file.name).symlink_to(file.resolve())
    narrow = {**values, "text_config": {**values["text_config"], "sliding_window": max(1, tokens // 2)}}
    (folder / "config.json").write_text(json.dumps(narrow, indent=1), encoding="utf-8")
    write_probes([replace(image, name=_NARROW_PROBE, extras=(), generation=())], place / NARROW_PROBES)
    return [_NARROW_PROBE]
