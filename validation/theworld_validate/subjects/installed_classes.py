"""The classes that a config names, among those that are installed.

In: the values of a config.json. Out: a config and its model's class, or a `ValueError` of one line. Code that comes
with a checkpoint or lies on the hub is not run, and not fetched.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theworld.checkpoints.checkpoint_files import check_safetensors_folder, read_json_object
from theworld.checkpoints.common_config_rules import check_common_fields, check_quantization_packages
from theworld.checkpoints.configuration_rules import check_builds
from theworld.checkpoints.error_text import file_error, shown_name

THE_WORLDS = ("gemma3", "theworld")  # model types whose rules TheWorld knows better
_NEVER_RUN = "code that comes with a checkpoint, or lies on the hub, is never run"


def is_the_worlds(values: Mapping[str, Any]) -> bool:
    """Whether a config is Gemma 3's or TheWorld's own; one that does not say what it is, is taken for one of them."""
    return values.get("model_type") in (*THE_WORLDS, None)


def check_folder(folder: Path) -> None:
    """Check a checkpoint of any family before it is loaded: weights, config, generation config.

    Raises:
        ValueError: with the file or field, and the fix.
    """
    from theworld.folder_rules import check_gemma3_folder, check_generation_config

    config_file = folder / "config.json"
    if not config_file.is_file() or is_the_worlds(read_json_object(config_file)):
        check_gemma3_folder(folder)
        return
    check_safetensors_folder(folder)
    values = read_json_object(config_file)
    find_class(values, where=str(config_file))
    check_quantization_packages(values, where=str(config_file))
    check_generation_config(folder)


def find_class(values: dict[str, Any], *, where: str) -> tuple[Any, Any]:
    """Find the config and the class of transformers that a config.json names.

    Args:
        where: the file, for the error.

    Raises:
        ValueError: if one of them is not installed, they do not fit, or a field is wrong.
    """
    import transformers
    from transformers import CONFIG_MAPPING

    check_common_fields(values, where=where)
    installed = f"transformers {transformers.__version__}"
    model_type, named = values.get("model_type"), values.get("architectures")
    if model_type not in CONFIG_MAPPING:
        what = f"model_type is {shown_name(repr(model_type))}, which {installed} does not have"
        raise file_error(where, what, f"install a release that has it; {_NEVER_RUN}")
    if not named:
        raise file_error(where, "architectures is missing", "name the class that the weights are of")
    if len(named) > 1:
        raise file_error(where, f"architectures names {len(named)} classes", "name the one that the weights are of")
    model_class = getattr(transformers, named[0], None)
    config_class = getattr(model_class, "config_class", None)
    if model_class is None:
        what = f"architectures names {shown_name(named[0])}, which {installed} does not have"
        raise file_error(where, what, f"install a release that has it; {_NEVER_RUN}")
    if config_class is None or not _is_a_model(model_class):
        what = f"architectures names {shown_name(named[0])}, which is no model that can be run"
        raise file_error(where, what, "name the class that the weights are of")
    if config_class.model_type != model_type:
        what = f"model_type is {model_type!r}, and {named[0]} is of model_type {config_class.model_type!r}"
        raise file_error(where, what, "correct the one that is wrong")
    values = config_class._decode_special_floats(values)  # as transformers reads infinity from JSON
    check_builds(config_class, values, where=where)
    return config_class.from_dict(values), model_class


def _is_a_model(model_class: Any) -> bool:
    """Whether a class is a model of torch with a forward of its own; the base class of a family has none."""
    from torch import nn
    from transformers import PreTrainedModel

    is_model = isinstance(model_class, type) and issubclass(model_class, PreTrainedModel)
    return is_model and model_class.forward is not nn.Module.forward
