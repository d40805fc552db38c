"""theworld-validate: parse, dispatch, exit code. Heavy imports happen inside the commands."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from validation.results import InputError
from validation.session import Options, guard, run_checks

app = typer.Typer(
    add_completion=True,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Prove what a fused model really is: parity with Gemma 3 bit for bit, and what the world branch costs.",
    epilog="Exit codes: 0 passed, 1 a check failed, 2 wrong usage or unreadable input, 3 inconclusive.",
)

DEFAULT_OUTPUT = Path("reports/latest")
PARITY_STEPS = 45  # of the progress bar
SELFTEST_STEPS = 96


class Dtype(StrEnum):
    """Floating-point types that a model can be loaded in."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Size(StrEnum):
    """Sizes of synthetic checkpoints."""

    TINY = "tiny"
    FOUR_B = "4b"


Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else, on stdout.")]
Output = Annotated[Path | None, typer.Option("--output", metavar="DIR", help="Write a report folder here.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no table and no progress; the exit code tells.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="DIR|ID", help="Gemma 3 checkpoint: a folder or a hub id. Default: a tiny one."),
]
Cosmos = Annotated[
    str | None,
    typer.Option("--cosmos", metavar="DIR|ID", help="Cosmos repository or VAE folder. Default: a tiny one."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="What weights are loaded in.")]
Attn = Annotated[str | None, typer.Option("--attn", help="Attention: sdpa, eager, flash_attention_2, flex_attention.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of probes and sampling.")]


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    json: Json = False,
    output: Output = DEFAULT_OUTPUT,
    quiet: Quiet = False,
    debug: Debug = False,
    model: Model = None,
    cosmos: Cosmos = None,
    device: Device = "cpu",
    dtype: DtypeOption = Dtype.BFLOAT16,
    attn: Attn = None,
    seed: Seed = 0,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Run every check that this machine can run, and write a report folder."""
    if version:
        from theworld import __version__

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    options = Options(json=json, output=output, quiet=quiet, debug=debug)

    def body(progress: Any) -> Any:
        from validation.suite import check_parity_of, check_world_of

        checkpoint, repository = _checkpoints(model, cosmos, progress)
        loading = {"device": _device(device), "dtype": dtype.value, "attn": _attn(attn), "seed": seed}
        parity_checks = check_parity_of(checkpoint, progress=progress, **loading)
        if repository is None:
            return parity_checks
        return [*parity_checks, *check_world_of(checkpoint, repository, progress=progress, **loading)]

    _finish(run_checks("theworld-validate", options, body, num_steps=PARITY_STEPS + 5))


@app.command()
def parity(
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    debug: Debug = False,
    model: Model = None,
    device: Device = "cpu",
    dtype: DtypeOption = Dtype.BFLOAT16,
    attn: Attn = None,
    seed: Seed = 0,
    reference: Annotated[
        str, typer.Option("--reference", metavar="MODULE:CLASS", help="What is taken as right.")
    ] = "transformers:Gemma3ForConditionalGeneration",
    candidate: Annotated[
        str, typer.Option("--candidate", metavar="MODULE:CLASS", help="A model class, or a function that loads one.")
    ] = "theworld:TheWorld",
    isolate: Annotated[bool, typer.Option("--isolate", help="Load and run each side in a process of its own.")] = False,
) -> None:
    """Compare the candidate with pure Gemma 3, bit for bit: state, trace, outputs, generation, gradients, files."""
    options = Options(json=json, output=output, quiet=quiet, debug=debug)

    def body(progress: Any) -> Any:
        from validation.suite import check_parity_isolated, check_parity_of

        checkpoint, _ = _checkpoints(model, None, progress)
        loading = {"device": _device(device), "dtype": dtype.value, "attn": _attn(attn), "seed": seed}
        sides = {"reference": reference, "candidate": candidate, "progress": progress}
        if isolate:
            return check_parity_isolated(checkpoint, **sides, **loading)
        return check_parity_of(checkpoint, **sides, **loading, save_to=output)

    _finish(run_checks("theworld-validate parity", options, body, num_steps=5 if isolate else PARITY_STEPS))


@app.command()
def fingerprint(
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE|DIR", help="Where to write: a .json file, or a folder.")
    ],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    model: Model = None,
    device: Device = "cpu",
    dtype: DtypeOption = Dtype.BFLOAT16,
    attn: Attn = None,
    seed: Seed = 0,
    target: Annotated[
        str, typer.Option("--target", metavar="MODULE:CLASS", help="A model class, or a function that loads one.")
    ] = "theworld:TheWorld",
) -> None:
    """Write everything observable about one model to a file, for `diff`."""

    def action() -> int:
        from validation.session import prepare_libraries, show_progress
        from validation.suite import make_fingerprint

        with show_progress(quiet=quiet, num_steps=15) as progress:
            prepare_libraries()
            checkpoint, _ = _checkpoints(model, None, progress)
            loading = {"device": _device(device), "dtype": dtype.value, "attn": _attn(attn), "seed": seed}
            made = make_fingerprint(checkpoint, target=target, progress=progress, **loading)
        from validation.fingerprint.files import write_fingerprint

        path = write_fingerprint(made, output)
        if json:
            print(path.read_text(encoding="utf-8"))
        elif not quiet:
            print(path)
        return 0

    _finish(guard(action, debug=debug))


@app.command()
def diff(
    reference: Annotated[Path, typer.Argument(metavar="A", help="What is taken as right: a file or folder.")],
    candidate: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.")],
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two fingerprints, made by any process, machine or release: surroundings first, then the models."""
    options = Options(json=json, output=output, quiet=quiet, debug=debug)

    def body(_progress: Any) -> Any:
        from validation.fingerprint.files import read_fingerprint
        from validation.parity import compare_files

        return compare_files(read_fingerprint(reference), read_fingerprint(candidate))

    _finish(run_checks("theworld-validate diff", options, body))


@app.command()
def selftest(
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    debug: Debug = False,
    model: Model = None,
    device: Device = "cpu",
    dtype: DtypeOption = Dtype.BFLOAT16,
    attn: Attn = None,
    seed: Seed = 0,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", metavar="NAME", help="Only this fault; may be given again.")
    ] = None,
    list_faults: Annotated[bool, typer.Option("--list", help="List the catalogue and exit.")] = False,
) -> None:
    """Inject every known fault, one at a time, and show that it is caught, placed and explained."""
    if list_faults:
        from validation.faults.catalogue import CATALOGUE

        for name, entry in CATALOGUE.items():
            print(f"{name:36} {entry.group:10} {entry.seen}")
        return
    options = Options(json=json, output=output, quiet=quiet, debug=debug)

    def body(progress: Any) -> Any:
        from validation.suite import check_selftest

        checkpoint, _ = _checkpoints(model, None, progress)
        loading = {"device": _device(device), "dtype": dtype.value, "attn": _attn(attn), "seed": seed}
        num_base_runs = 0 if fault else None
        return check_selftest(checkpoint, progress=progress, names=fault or (), num_base_runs=num_base_runs, **loading)

    _finish(run_checks("theworld-validate selftest", options, body, num_steps=SELFTEST_STEPS if not fault else None))


@app.command()
def world(
    json: Json = False,
    output: Output = None,
    quiet: Quiet = False,
    debug: Debug = False,
    model: Model = None,
    cosmos: Cosmos = None,
    device: Device = "cpu",
    dtype: DtypeOption = Dtype.BFLOAT16,
    attn: Attn = None,
    seed: Seed = 0,
    frames: Annotated[
        Path | None,
        typer.Option("--frames", metavar="FILE", help="A clip as .npy: (3, frames, height, width) in [-1, 1]."),
    ] = None,
) -> None:
    """Check the world path: token counts, effect on logits, gradients, and batches against rows."""
    options = Options(json=json, output=output, quiet=quiet, debug=debug)

    def body(progress: Any) -> Any:
        from validation.suite import check_world_of

        checkpoint, repository = _checkpoints(model, cosmos, progress)
        if repository is None:
            raise InputError("--model was given without --cosmos; name a Cosmos repository or VAE folder")
        return check_world_of(
            checkpoint,
            repository,
            frames=frames,
            device=_device(device),
            dtype=dtype.value,
            attn=_attn(attn),
            seed=seed,
            progress=progress,
        )

    _finish(run_checks("theworld-validate world", options, body, num_steps=6))


@app.command()
def synth(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or an empty one.")],
    size: Annotated[
        Size, typer.Option("--size", help="tiny (a few MB) or 4b (the real geometry, 8.9 GB).")
    ] = Size.TINY,
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="Where tensors are drawn: cpu or cuda.")] = "cpu",
    debug: Debug = False,
) -> None:
    """Write a random-weight checkpoint in the real format: DIR/gemma and DIR/cosmos."""

    def action() -> int:
        from validation.suite import write_synthetic

        checkpoint = write_synthetic(size.value, directory, seed=seed, device=_device(device))
        print(f"theworld-validate --model {checkpoint.gemma} --cosmos {checkpoint.cosmos}")
        return 0

    _finish(guard(action, debug=debug))


@app.command()
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show the environment, and what can run here."""

    def action() -> int:
        from validation.suite import print_doctor

        print_doctor(as_json=json)
        return 0

    _finish(guard(action, debug=debug))


def _finish(code: int) -> None:
    if code:
        raise typer.Exit(code)


def _checkpoints(model: str | None, cosmos: str | None, progress: Any) -> tuple[str, str | None]:
    """Fill in the embedded tiny checkpoint where the user named none."""
    if model is not None:
        return model, cosmos
    from theworld.synthetic import cached_checkpoint

    progress("preparing the tiny checkpoint")
    tiny = cached_checkpoint("tiny")
    return str(tiny.gemma), cosmos or str(tiny.cosmos)


def _device(device: str) -> str:
    import torch

    if device == "cpu":
        return device
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"--device {device}: no such device; give cpu, cuda or cuda:N") from error
    if parsed.type != "cuda":
        raise InputError(f"--device {device}: not supported; give cpu, cuda or cuda:N")
    if not torch.cuda.is_available() or (parsed.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def _attn(attn: str | None) -> str | None:
    from validation.subjects import ATTENTIONS

    if attn is not None and attn not in ATTENTIONS:
        raise InputError(f"--attn {attn}: no such attention; there are {', '.join(ATTENTIONS)}")
    return attn


def main() -> None:
    """Entry point of the `theworld-validate` command."""
    app(prog_name="theworld-validate")
