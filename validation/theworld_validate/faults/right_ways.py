"""Ways of loading a checkpoint that are right: none of them may have a finding.

In: a checkpoint and the keyword arguments of a loader. Out: a model. Each is a loader as a user would write it.
"""

import tempfile
from typing import Any

from theworld_validate.target import REFERENCE_TARGET

_HERE = "theworld_validate.faults.right_ways:"


def _class_of(checkpoint: str) -> Any:
    from theworld_validate.subjects.architectures import architecture_of

    return architecture_of(checkpoint).model_class


def resharded(checkpoint: str, **arguments: Any) -> Any:
    """Save in shards and load those."""
    with tempfile.TemporaryDirectory() as folder:
        _class_of(checkpoint).from_pretrained(checkpoint, **arguments).save_pretrained(folder, max_shard_size="600KB")
        return _class_of(checkpoint).from_pretrained(folder, **arguments)


def saved_by_theworld(checkpoint: str, **arguments: Any) -> Any:
    """Let TheWorld save with its branch off, and let the base class load that."""
    from theworld import TheWorld

    with tempfile.TemporaryDirectory() as folder:
        TheWorld.from_pretrained(checkpoint, enable_world=False, **arguments).save_pretrained(folder)
        return TheWorld.from_pretrained(folder, enable_world=False, **arguments)


def low_memory(checkpoint: str, **arguments: Any) -> Any:
    """Load shard by shard."""
    return _class_of(checkpoint).from_pretrained(checkpoint, low_cpu_mem_usage=True, **arguments)


def device_map(checkpoint: str, **arguments: Any) -> Any:
    """Name the device of everything."""
    return _class_of(checkpoint).from_pretrained(checkpoint, **{"device_map": {"": "cpu"}, **arguments})


def old_dtype_word(checkpoint: str, dtype: Any = None, **arguments: Any) -> Any:
    """Use the former name of dtype."""
    return _class_of(checkpoint).from_pretrained(checkpoint, torch_dtype=dtype, **arguments)


def auto_class(checkpoint: str, **arguments: Any) -> Any:
    """Go through the Auto class."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(checkpoint, **arguments)


def own_config(checkpoint: str, **arguments: Any) -> Any:
    """Hand the config over."""
    from transformers import AutoConfig

    return _class_of(checkpoint).from_pretrained(checkpoint, config=AutoConfig.from_pretrained(checkpoint), **arguments)


def in_eval_mode(checkpoint: str, **arguments: Any) -> Any:
    """Say what is so already: evaluation mode, tied weights, and safetensors."""
    model = (
        _class_of(checkpoint)
        .from_pretrained(checkpoint, use_safetensors=True, local_files_only=True, **arguments)
        .eval()
    )
    model.tie_weights()
    return model


RIGHT_WAYS = {
    "base_class": REFERENCE_TARGET,
    "theworld": "theworld:TheWorld",
    **{
        way.__name__: _HERE + way.__name__
        for way in (
            resharded,
            saved_by_theworld,
            low_memory,
            device_map,
            old_dtype_word,
            auto_class,
            own_config,
            in_eval_mode,
        )
    },
}
_OF_ANY_FAMILY = ("resharded", "low_memory", "device_map", "old_dtype_word", "own_config", "in_eval_mode")


def ways_of_any_family(base: str) -> dict[str, str]:
    """The ways for a checkpoint of another family than Gemma 3, whose own class is `base`."""
    return {"base_class": base, **{name: RIGHT_WAYS[name] for name in _OF_ANY_FAMILY}}
