"""What is asked about each cell of a matrix, and of which model.

In: what is predicted, cells, and a `Question`. Out: a `Prediction` a cell, as they come. An error in one cell is that
cell's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theworld.pipeline_geometries import PREDICT_2, PipelineGeometry
from theworld_validate.memory.budget import Budget
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.gpus import Gpu
from theworld_validate.memory.outcomes import Prediction
from theworld_validate.results import InputError, SubjectRecord
from theworld_validate.subjects.default_targets import default_targets
from theworld_validate.target import CANDIDATE_TARGET

if TYPE_CHECKING:
    from theworld_validate.memory.predict import Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about every cell.

    Args:
        capacity_bytes: what may be reserved; None for no limit.
        sweep_over: "batch", "text" or "world": the cell over growing sizes, in place of the cell alone.
        expandable_segments: as PYTORCH_CUDA_ALLOC_CONF sets it.
    """

    capacity_bytes: int | None = None
    sweep_over: str | None = None
    expandable_segments: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What predictions are held against.

    Args:
        gpu: that they must fit; None for any.
        sweep_over: "batch", "text" or "world": each cell over growing sizes, in place of the cell alone.
        expandable_segments: as PYTORCH_CUDA_ALLOC_CONF sets it.
        budgets: what matching cells may take.
    """

    gpu: Gpu | None = None
    sweep_over: str | None = None
    expandable_segments: bool = False
    budgets: tuple[Budget, ...] = ()

    @property
    def question(self) -> Question:
        """What a predictor is asked."""
        return Question(
            capacity_bytes=None if self.gpu is None else self.gpu.capacity_bytes,
            sweep_over=self.sweep_over,
            expandable_segments=self.expandable_segments,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """What is predicted: a geometry by name, a config.json, or a checkpoint of which only the config is read.

    Args:
        geometry: a name, or a path that ends in .json.
        checkpoint: a folder or a hub id; in place of `geometry`.
        cosmos: the VAE of a checkpoint that has none, and what predicts.
        generation: of what predicts beside a geometry.
    """

    geometry: str = "4b"
    checkpoint: str | None = None
    cosmos: str | None = None
    generation: str = PREDICT_2

    @property
    def name(self) -> str:
        """What the user named."""
        return self.checkpoint or self.geometry

    @property
    def target(self) -> str:
        """What would load it."""
        if self.checkpoint is None:
            return CANDIDATE_TARGET
        base, own = default_targets(self.checkpoint)
        return own or base

    def record(self) -> SubjectRecord:
        """What a report says of it: no weight is loaded."""
        return SubjectRecord(
            role="model",
            target=self.target,
            checkpoint=self.name,
            cosmos=self.cosmos,
            dtype="bfloat16",
            device="none",
        )

    def read(self) -> Any:
        """The `TheWorldConfig` with a world branch; of another family, its own config.

        Raises:
            InputError: if there is none, or no model can be built from it.
        """
        from theworld_validate.subjects import empty_models

        if self.checkpoint is not None and self.target != CANDIDATE_TARGET:
            from theworld_validate.subjects.architectures import architecture_of

            return architecture_of(self.checkpoint).config
        if self.checkpoint is not None:
            return empty_models.blueprint_of_checkpoint(self.checkpoint, self.cosmos)
        if Path(self.geometry).suffix == ".json":
            return empty_models.blueprint_of_file(Path(self.geometry))
        return empty_models.blueprint_of_size(self.geometry)

    def read_pipeline(self, config: Any) -> PipelineGeometry:
        """What predicts: of the checkpoint's Cosmos repository, or beside a geometry.

        Raises:
            InputError: if there is none.
        """
        from theworld_validate.subjects import empty_pipeline

        if self.checkpoint is None:
            size = self.geometry if Path(self.geometry).suffix != ".json" else "4b"
            return empty_pipeline.pipeline_of_size(size, config.world_config.latent_channels, self.generation)
        cosmos = self.cosmos or config.world_config.cosmos_model_name_or_path
        if cosmos is None:
            raise InputError(f"{self.checkpoint}: it does not say what predicts; name it with --cosmos")
        return empty_pipeline.pipeline_of_repository(cosmos)


def answer(predictor: "Predictor", cell: Cell, question: Question) -> Prediction:
    """Answer for one cell.

    Raises:
        InputError: if the prompt is longer than the model's positions.
    """
    from theworld_validate.memory.levers import find_levers, sweep

    capacity, expandable = question.capacity_bytes, question.expandable_segments
    try:
        if question.sweep_over is not None:
            swept = sweep(predictor, cell, question.sweep_over, capacity_bytes=capacity, expandable_segments=expandable)
            return Prediction(cell=cell, results=tuple(swept))
        predicted = predictor.predict(cell, capacity_bytes=capacity, expandable_segments=expandable)
        if capacity is None or predicted.fits:
            return Prediction(cell=cell, results=(predicted,))
        ways = find_levers(predictor, cell, capacity_bytes=capacity, expandable_segments=expandable)
        return Prediction(cell=cell, results=(predicted,), ways=tuple(ways))
    except InputError:
        raise
    except Exception as error:
        return Prediction(cell=cell, error=describe_error(error))


def describe_error(error: Exception) -> str:
    """What a cell raised, in one line."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    from theworld.checkpoints.error_text import one_line

    if isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
        return one_line(
            f"the model's code reads values of its tensors ({error}), and there are none without data; "
            "theworld-validate memory measure has them"
        )
    return one_line(f"{type(error).__name__}: {error}")


def answer_all(
    config: Any,
    cells: Sequence[Cell],
    question: Question,
    *,
    pipeline: PipelineGeometry | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Iterator[Prediction]:
    """Answer for every cell, in this process; see `answer`."""
    from theworld_validate.memory.predict import Predictor

    predictor = Predictor(config, pipeline)
    for cell in cells:
        progress(cell.title)
        yield answer(predictor, cell, question)
