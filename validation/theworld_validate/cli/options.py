"""Options that many commands take, written once.

In: a command's own function. Out: the same with the shared options added to its signature, and handed to it
as one object each. Nothing heavy is imported here.
"""

import functools
import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from theworld_validate.cli.commands import LOADED, REPORTED
from theworld_validate.cli.session import Options
from theworld_validate.results import InputError
from theworld_validate.target import ATTENTIONS, Target
from theworld_validate.workers.timeout import DEFAULT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from theworld_validate.workers.run import Run


class Dtype(StrEnum):
    """Floating-point types that a model can be loaded in."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Accept(StrEnum):
    """What a comparison accepts."""

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"


class Truth(StrEnum):
    """What the reference is also run in, for the referee to judge by."""

    AUTO = "auto"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    NONE = "none"

    def dtype_for(self, dtype: str) -> str | None:
        """The dtype; by itself the next wider one than `dtype`, which is one of `Dtype`."""
        if self is Truth.AUTO:
            from theworld_validate.compare.rounding import WIDER

            return WIDER[dtype]
        return None if self is Truth.NONE else self.value


class Size(StrEnum):
    """Sizes of synthetic checkpoints."""

    TINY = "tiny"
    FOUR_B = "4b"


class Generation(StrEnum):
    """The generations of Cosmos-Predict; as `theworld.pipeline_geometries.GENERATION_NAMES`, which imports nothing."""

    PREDICT_2 = "predict2"
    PREDICT_2_5 = "predict2.5"


class Vae(StrEnum):
    """VAEs of synthetic checkpoints."""

    WAN_2_1 = "wan2.1"
    WAN_2_2 = "wan2.2"


Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", rich_help_panel=REPORTED, help="Write a report folder here."),
]
Debug = Annotated[
    bool, typer.Option("--debug", rich_help_panel=REPORTED, help="Show the traceback of an unexpected error.")
]
Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=REPORTED, help="Print the report as JSON, and nothing else, on stdout."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", rich_help_panel=REPORTED, help="Print no table and no progress; the exit code tells."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="DIR|ID",
        rich_help_panel=LOADED,
        help="A checkpoint: a folder or a hub id. Default: a tiny Gemma 3.",
    ),
]
Cosmos = Annotated[
    str | None,
    typer.Option(
        "--cosmos",
        metavar="DIR|ID",
        rich_help_panel=LOADED,
        help="Cosmos repository or VAE folder. Default: a tiny one; beside a --model none.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", rich_help_panel=LOADED, help="cpu, cuda, cuda:N, or auto.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", rich_help_panel=LOADED, help="What weights are loaded in.")]
Attn = Annotated[
    str | None,
    typer.Option(
        "--attn",
        rich_help_panel=LOADED,
        help=f"Attention: {', '.join(ATTENTIONS)}. Default: as transformers chooses.",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, rich_help_panel=LOADED, help="Of probes and sampling.")
]
AcceptOption = Annotated[
    Accept,
    typer.Option("--accept", help="identical: bit for bit. equivalent: numbers may be rounded otherwise."),
]
TruthOption = Annotated[
    Truth,
    typer.Option("--truth", help="What the reference is also run in, to tell rounding from a bug; auto: one dtype up."),
]
Sketch = Annotated[
    bool, typer.Option("--sketch", help="Also sketch each tensor: 1 KiB, from which distances between files are known.")
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=1,
        max=10**6,
        rich_help_panel=REPORTED,
        help="What each subject's process may take.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What every command that loads a model takes, as the user gave it."""

    model: Model = None
    cosmos: Cosmos = None
    device: DeviceOption = "cpu"
    dtype: DtypeOption = Dtype.BFLOAT16
    attn: Attn = None
    seed: Seed = 0

    def target(self, run: "Run", *, needs_cosmos: bool = False) -> Target:
        """What is to be loaded, and how; the embedded tiny checkpoints where the user named no model.

        Raises:
            InputError: if there is no such attention, or --model was given without a --cosmos that is needed.
        """
        from theworld_validate.synthetic_checkpoints import prepare_tiny

        if self.attn is not None and self.attn not in ATTENTIONS:
            raise InputError(f"--attn {self.attn}: no such attention; there are {', '.join(ATTENTIONS)}")
        checkpoint, cosmos = self.model, self.cosmos
        if checkpoint is None:
            checkpoint, tiny_cosmos = prepare_tiny(run)
            cosmos = cosmos or tiny_cosmos
        if needs_cosmos and cosmos is None:
            raise InputError("--model was given without --cosmos; name a Cosmos repository or VAE folder")
        return Target(
            checkpoint=checkpoint,
            cosmos=cosmos,
            device=self.device,
            dtype=self.dtype.value,
            attn=self.attn,
            seed=self.seed,
        )


_REPORTING: dict[str, tuple[Any, Any]] = {
    "json": (Json, False),
    "output": (Output, None),
    "quiet": (Quiet, False),
    "debug": (Debug, False),
}


def _typed(context: typer.Context) -> str | None:
    """The command as it was typed; None where it was called from Python."""
    typed = context.find_root().obj
    return shlex.join(typed) if isinstance(typed, list) else None


def _options_of(kind: type) -> dict[str, tuple[Any, Any]]:
    """The options that a dataclass has as fields: name -> type, default."""
    return {field.name: (field.type, field.default) for field in fields(kind)}


def _parameter(name: str, option: tuple[Any, Any]) -> inspect.Parameter:
    annotation, default = option
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def shared_options(
    *,
    loads: bool = True,
    runs: bool = True,
    without: tuple[str, ...] = (),
    output: Path | None = None,
    matrix: type | None = None,
) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Give a command the shared options; its function takes `options`, and `loading` if it loads.

    Args:
        loads: whether the command loads a model.
        runs: whether it has workers, which --timeout limits.
        without: shared options that the command does not take, or takes in a form of its own.
        output: the default of --output.
        matrix: a dataclass of options of its own, of which the function takes an object as `matrix`.
    """
    added = {name: option for name, option in _REPORTING.items() if name not in without}
    if runs:
        added["timeout"] = (Timeout, DEFAULT_TIMEOUT_SECONDS)
    if "output" in added:
        added["output"] = (Output, output)
    if loads:
        added |= {name: option for name, option in _options_of(Loading).items() if name not in without}
    of_matrix = {} if matrix is None else _options_of(matrix)

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        parameters = [one for name, one in own.items() if name not in ("options", "loading", "matrix")]
        if of_matrix:  # they come first
            others = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
            parameters = [*(_parameter(name, option) for name, option in of_matrix.items()), *others]
        has_context = "context" in own
        if not has_context:
            parameters.append(inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
        parameters += [_parameter(name, option) for name, option in added.items()]

        @functools.wraps(function)
        def command(**given: Any) -> None:
            reporting = {name: given.pop(name) for name in (*_REPORTING, "timeout") if name in added}
            context = given["context"] if has_context else given.pop("context")
            objects: dict[str, Any] = {"options": Options(**reporting, command_line=_typed(context))}
            if matrix is not None:
                objects["matrix"] = matrix(**{name: given.pop(name) for name in of_matrix})
            if loads:
                names = [name for name in _options_of(Loading) if name in added]
                objects["loading"] = Loading(**{name: given.pop(name) for name in names})
            if code := function(**objects, **given):
                raise typer.Exit(code)

        vars(command)["__signature__"] = inspect.Signature(parameters)
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate
