"""Targets: "module:name" to what loads a model, held against what a loader must take before it is called.

In: a target's text. Out: a class with `from_pretrained`, or a function; or an `InputError` of one line that names the
target and the fix. Importing runs the module; nothing else is run.
"""

import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from theworld.checkpoints.error_text import one_line, summary
from theworld_validate.results import InputError
from theworld_validate.target import CANDIDATE_TARGET
from theworld_validate.workers.whose_code import frames_of

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_NAME = re.compile(r"[^\W\d]\w*")


def resolve_target(target: str) -> Any:
    """Find "module:name"; the working directory is searched too.

    Raises:
        InputError: if there is no such module or name, or importing it fails.
    """
    module_name, separator, name = target.partition(":")
    if not separator or not _MODULE.fullmatch(module_name) or not _NAME.fullmatch(name):
        raise InputError(f"{one_line(repr(target))} is not of the form module:Class, such as {CANDIDATE_TARGET}")
    _search_working_directory()
    module = _import(target, module_name)
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise InputError(f"{target}: module {module_name!r} has no {name!r}") from error
    except Exception as error:  # a module's own __getattr__ may raise anything
        what = f"{type(error).__name__}: {summary(error)}"
        raise InputError(f"{target}: module {module_name!r} raises {what} when asked for {name!r}") from error


def _search_working_directory() -> None:
    try:
        here = str(Path.cwd())
    except OSError:  # it was deleted: what is installed can be found all the same
        return
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)


def _import(target: str, module_name: str) -> types.ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            fix = "install it, or run from the folder it is in"
            raise InputError(f"{target}: no module {module_name!r}; {fix}") from error
        raise _failed_import(target, module_name, error) from error
    except Exception as error:  # a module may raise anything
        raise _failed_import(target, module_name, error) from error


def _failed_import(target: str, module_name: str, error: Exception) -> InputError:
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}:{error.lineno})"
    else:
        frames = [f for f in frames_of(error) if "importlib" not in f.filename]
        place = f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
    what = f"{type(error).__name__}: {summary(error)}"
    return InputError(f"{target}: importing module {module_name!r} raises {what}{one_line(place)}")


def check_loader(target: str, found: Any, arguments: dict[str, Any]) -> Callable[..., Any]:
    """What is called to load: a class's `from_pretrained`, or the function itself.

    Args:
        target: its name, for the error.
        found: what `resolve_target` gave.
        arguments: the keyword arguments that it will be called with.

    Raises:
        InputError: if it cannot be called with a checkpoint and these.
    """
    loader = found
    if isinstance(found, type):
        loader = getattr(found, "from_pretrained", None)
        if not callable(loader):
            raise InputError(f"{target} is a class without from_pretrained; name one that has it, or a function")
    elif not callable(found):
        kind = "a module" if isinstance(found, types.ModuleType) else f"no function, but of type {type(found).__name__}"
        raise InputError(f"{target} is {kind}; name a class with from_pretrained, or a function that loads a model")
    try:
        signature = inspect.signature(loader)
    except (ValueError, TypeError):  # some built-in functions do not tell
        return loader
    try:
        signature.bind("checkpoint", **arguments)
    except TypeError as error:
        call = ", ".join(["checkpoint", *(f"{name}=..." for name in arguments)])
        raise InputError(
            f"{target}{one_line(signature)} cannot load: loaders are called with ({call}); {summary(error)}"
        ) from error
    return loader
