"""Options that many commands take, written once.

In: a command's own function. Out: the same with the shared options added to its signature, and handed to it
as one object each. Nothing heavy is imported here.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from theworld_validate.cli.session import Options, Progress
from theworld_validate.results import InputError


class Dtype(StrEnum):
    """Floating-point types that a model can be loaded in."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Size(StrEnum):
    """Sizes of synthetic checkpoints."""

    TINY = "tiny"
    FOUR_B = "4b"


Output = Annotated[Path | None, typer.Option("--output", metavar="DIR", help="Write a report folder here.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else, on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no table and no progress; the exit code tells.")]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="DIR|ID", help="Gemma 3 checkpoint: a folder or a hub id. Default: a tiny one."),
]
Cosmos = Annotated[
    str | None,
    typer.Option("--cosmos", metavar="DIR|ID", help="Cosmos repository or VAE folder. Default: a tiny one."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:N, or auto.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="What weights are loaded in.")]
Attn = Annotated[str | None, typer.Option("--attn", help="Attention: sdpa, eager, flash_attention_2, flex_attention.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of probes and sampling.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What every command that loads a model takes, as the user gave it."""

    model: Model = None
    cosmos: Cosmos = None
    device: DeviceOption = "cpu"
    dtype: DtypeOption = Dtype.BFLOAT16
    attn: Attn = None
    seed: Seed = 0

    def checkpoints(self, progress: Progress) -> tuple[str, str | None]:
        """The Gemma 3 and Cosmos checkpoints; the embedded tiny ones where the user named no model."""
        if self.model is not None:
            return self.model, self.cosmos
        from theworld.synthetic import cached_checkpoint

        progress("preparing the tiny checkpoint")
        tiny = cached_checkpoint("tiny")
        return str(tiny.gemma), self.cosmos or str(tiny.cosmos)

    def both_checkpoints(self, progress: Progress) -> tuple[str, str]:
        """The two checkpoints, where a command needs both.

        Raises:
            InputError: if --model was given without --cosmos.
        """
        checkpoint, cosmos = self.checkpoints(progress)
        if cosmos is None:
            raise InputError("--model was given without --cosmos; name a Cosmos repository or VAE folder")
        return checkpoint, cosmos

    def arguments(self) -> dict[str, Any]:
        """How to load, checked: device, dtype, attn and seed.

        Raises:
            InputError: if this machine has no such device, or there is no such attention.
        """
        return {
            "device": check_device(self.device),
            "dtype": self.dtype.value,
            "attn": _check_attn(self.attn),
            "seed": self.seed,
        }


def check_device(device: str) -> str:
    """Return a device's name.

    Raises:
        InputError: if this machine has no such device.
    """
    import torch

    if device == "cpu" or (device == "auto" and torch.cuda.is_available()):
        return device
    try:
        parsed = torch.device("cuda" if device == "auto" else device)
    except RuntimeError as error:
        raise InputError(f"--device {device}: no such device; give cpu, cuda or cuda:N") from error
    if parsed.type != "cuda":
        raise InputError(f"--device {device}: not supported; give cpu, cuda or cuda:N")
    if not torch.cuda.is_available() or (parsed.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def _check_attn(attn: str | None) -> str | None:
    from theworld_validate.subjects.subject import ATTENTIONS

    if attn is not None and attn not in ATTENTIONS:
        raise InputError(f"--attn {attn}: no such attention; there are {', '.join(ATTENTIONS)}")
    return attn


_REPORTING: dict[str, tuple[Any, Any]] = {
    "json": (Json, False),
    "output": (Output, None),
    "quiet": (Quiet, False),
    "debug": (Debug, False),
}


def _loading_options() -> dict[str, tuple[Any, Any]]:
    return {field.name: (field.type, field.default) for field in fields(Loading)}


def shared_options(
    *, loads: bool = True, without: tuple[str, ...] = (), output: Path | None = None
) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Give a command the shared options; its function takes `options`, and `loading` if it loads.

    Args:
        loads: whether the command loads a model.
        without: shared options that the command does not take, or takes in a form of its own.
        output: the default of --output.
    """
    added = {name: option for name, option in _REPORTING.items() if name not in without}
    if "output" in added:
        added["output"] = (Output, output)
    if loads:
        added |= {name: option for name, option in _loading_options().items() if name not in without}

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        parameters = [parameter for name, parameter in own.items() if name not in ("options", "loading")]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in added.items()
        ]

        @functools.wraps(function)
        def command(**given: Any) -> None:
            objects: dict[str, Any] = {
                "options": Options(**{name: given.pop(name) for name in _REPORTING if name in added})
            }
            if loads:
                names = [name for name in _loading_options() if name in added]
                objects["loading"] = Loading(**{name: given.pop(name) for name in names})
            if code := function(**objects, **given):
                raise typer.Exit(code)

        vars(command)["__signature__"] = inspect.Signature(parameters)
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate
