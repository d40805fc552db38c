"""The matrix of cells that the memory commands' options stand for.

In: what was given on the command line. Out: cells, or an `InputError` that names the option.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from theworld_validate.cli.memory_options import CELL_FIELDS, MatrixOptions, Task
from theworld_validate.results import InputError

if TYPE_CHECKING:
    from theworld_validate.memory.adapter_config import Adapter
    from theworld_validate.memory.cells import Cell

Choices = dict[str, "Sequence[str] | Sequence[int] | Sequence[bool] | Sequence[Adapter] | None"]
_DEFAULTS: Choices = {
    "preset": ("projection", "vision", "language", "full"),
    "checkpointing": (False, True),
}
_OPTIONS = {field: f"--{name}" for name, field in CELL_FIELDS.items()}


def _option_of(field: str) -> str:
    return _OPTIONS.get(field, f"--{field.replace('_', '-')}")


_FAMILY_PRESETS = ("full", "none")


def family_of(checkpoint: str | None) -> str | None:
    """What loads a checkpoint of another family than Gemma 3; None for TheWorld's own."""
    from theworld_validate.subjects.default_targets import default_targets

    if checkpoint is None:
        return None
    base, own = default_targets(checkpoint)
    return base if own is None else None


def read_adapters(given: Sequence[str] | None, *, family: str | None) -> "list[Adapter] | None":
    """The adapters of `--adapter`.

    Raises:
        InputError: if one cannot be read, or its memory is not known.
    """
    if not given:
        return None
    from theworld_validate.memory.adapter_config import read_adapter

    adapters = [read_adapter(one, is_the_worlds=family is None) for one in given]
    for i, one in enumerate(adapters):
        if any(other.title == one.title and other != one for other in adapters[:i]):
            raise InputError(
                f"--adapter: two different adapters are called {one.title}; give their folders other names"
            )
    return adapters


def cells_of(options: MatrixOptions, *, family: str | None = None) -> "tuple[Cell, ...]":
    """The matrix of the choices for a task; what was not given is the default.

    Args:
        family: what loads a model of another family than Gemma 3, which knows its presets itself.

    Raises:
        InputError: for a value that no cell can have, an option of another task, or an adapter that cannot be read.
    """
    from theworld_validate.memory.cells import OWN_FIELDS, build_family_matrix, build_matrix, check_value

    task = options.task
    choices: Choices = {**options.choices, "adapter": read_adapters(options.adapter, family=family)}
    own = OWN_FIELDS[task.value]
    others = {field: name for name, fields in reversed(OWN_FIELDS.items()) for field in fields if field not in own}
    given = {field: values for field, values in choices.items() if values}
    for field in given:
        if field in others:
            raise InputError(f"{_option_of(field)} is of --task {others[field]}; leave it out of --task {task.value}")
    matrix = {field: values for field, values in _DEFAULTS.items() if field in own} | given
    has_presets = task is Task.TRAIN and not choices.get("adapter")
    if not has_presets:
        if choices.get("preset"):
            raise InputError("--preset and --adapter both say what trains; give one of the two")
        matrix.pop("preset", None)
    if family is not None:
        if task not in (Task.TRAIN, Task.EVALUATE):
            raise InputError(f"--task {task.value} is TheWorld's own, and this is for {family}; leave it out")
        _refuse_the_worlds_own(choices, family)
        matrix["preset"] = (choices.get("preset") or _FAMILY_PRESETS) if has_presets else _FAMILY_PRESETS[1:]
    for field, values in matrix.items():
        try:
            for value in (values or ()) if family is None or field != "preset" else ():
                check_value(field, value)
        except ValueError as error:
            raise InputError(f"{_option_of(field)}: {error}") from error
    try:
        asked = {field: values or () for field, values in matrix.items()}
        if family is not None:
            return build_family_matrix(**asked)
        return build_matrix(task=(task.value,), **asked)
    except ValueError as error:
        raise InputError(str(error)) from error


def _refuse_the_worlds_own(choices: Choices, family: str) -> None:
    own = {
        "--world-tokens": choices.get("world_tokens"),
        "--chunked-loss": True in (choices.get("chunked_loss") or ()),
        "--gpus": any(number != 1 for number in choices.get("num_gpus") or ()),
        "--strategy": any(name != "fsdp2" for name in choices.get("strategy") or ()),
    }
    for option, is_given in own.items():
        if is_given:
            raise InputError(f"{option} is TheWorld's own, and this is for {family}; leave it out")
