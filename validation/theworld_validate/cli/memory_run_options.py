"""Options of `memory predict` that are about a run of many steps, and what they ask.

In: what was given on the command line. Out: `RunTerms`, or an `InputError` that names the option.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from theworld_validate.cli.memory_options import Task
from theworld_validate.results import InputError

if TYPE_CHECKING:
    from theworld_validate.memory.budget import Budget
    from theworld_validate.memory.gpus import Gpu
    from theworld_validate.memory.run_checks import RunTerms

Lengths = Annotated[
    str | None,
    typer.Option(
        "--lengths",
        metavar="LENGTHS",
        help="A run of changing length: uniform:LEAST:MOST text tokens of a row, or a FILE with a number a line.",
    ),
]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", help="Of the run. Default: as many as lines, or 200.")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of drawn lengths. Default: 0.")]
GarbageCollectionThreshold = Annotated[
    float | None,
    typer.Option(
        "--gc-threshold",
        metavar="SHARE",
        help="Of a run in --gpu's memory: garbage_collection_threshold.",
    ),
]
MaxSplitSize = Annotated[
    int | None,
    typer.Option("--max-split-size-mb", metavar="MIB", help="Of a run: max_split_size_mb."),
]
_LEAST_SPLIT_MIB = 20  # torch takes more than the size of a large segment


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What was given; None for what was not."""

    lengths: str | None
    steps: int | None
    seed: int | None
    expandable_segments: bool
    garbage_collection_threshold: float | None
    max_split_size_mb: int | None

    def check(
        self,
        task: Task,
        *,
        text_tokens: Sequence[int] | None,
        sweep: str | None,
        accumulation: Sequence[int] | None = None,
    ) -> None:
        """Raise an `InputError` for what does not go together, or is no such value."""
        own = {
            "--steps": self.steps,
            "--seed": self.seed,
            "--gc-threshold": self.garbage_collection_threshold,
            "--max-split-size-mb": self.max_split_size_mb,
        }
        if self.lengths is None:
            for option, value in own.items():
                if value is not None:
                    raise InputError(f"{option} is of a run of many steps; give its --lengths too")
            return
        if task is not Task.TRAIN:
            raise InputError(f"--lengths is of training steps; leave it out of --task {task.value}")
        if text_tokens:
            raise InputError("--lengths and --text-tokens both say how long rows are; give one of the two")
        if any(number != 1 for number in accumulation or ()):
            raise InputError("--lengths is of steps of one batch; leave --accumulation out")
        if sweep is not None:
            raise InputError("--lengths and --sweep both change what is asked; give one of the two")
        threshold, split = self.garbage_collection_threshold, self.max_split_size_mb
        if threshold is not None and not 0 < threshold < 1:
            raise InputError(f"--gc-threshold {threshold:g}: give a share above 0 and below 1")
        if split is not None and not _LEAST_SPLIT_MIB < split < 1 << 40:
            raise InputError(f"--max-split-size-mb {split}: give a number of MiB above {_LEAST_SPLIT_MIB}")

    def terms(self, *, gpu: "Gpu | None", budgets: "tuple[Budget, ...]") -> "RunTerms":
        """What runs are asked and held against.

        Raises:
            InputError: if there are no such lengths, or a threshold without a limit.
        """
        from theworld_validate.memory.allocator import AllocatorSettings
        from theworld_validate.memory.lengths import read_lengths
        from theworld_validate.memory.run_checks import RunTerms
        from theworld_validate.memory.run_outcomes import RunQuestion

        assert self.lengths is not None
        if self.garbage_collection_threshold is not None and gpu is None:
            raise InputError("--gc-threshold is a share of a limit; give --gpu too")
        split = self.max_split_size_mb
        settings = AllocatorSettings(
            expandable_segments=self.expandable_segments,
            garbage_collection_threshold=self.garbage_collection_threshold,
            max_split_size_bytes=None if split is None else split << 20,
        )
        question = RunQuestion(
            lengths=read_lengths(self.lengths, num_steps=self.steps, seed=self.seed or 0),
            settings=settings,
            capacity_bytes=None if gpu is None else gpu.capacity_bytes,
        )
        return RunTerms(question=question, gpu=gpu, budgets=budgets)
