"""What predicts, without weights: Cosmos's transformer and text encoder from configs alone.

In: a size's name, or a Cosmos repository of which only configs are read. Out: a `PipelineGeometry`, and the parts that
`CosmosWorldModel` asks for, as models whose tensors have no data.
"""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from theworld.pipeline_geometries import PREDICT_2, PREDICT_2_5, PipelineGeometry
from theworld_validate.results import InputError

_PIPELINES = {"Cosmos2VideoToWorldPipeline": PREDICT_2, "Cosmos2_5_PredictBasePipeline": PREDICT_2_5}
_PRIVATE = ("_class_name", "_diffusers_version", "_name_or_path")
_LONGEST_PROMPT = 512  # tokens that the pipelines pad every prompt to


def pipeline_of_size(size: str, channels: int, generation: str) -> PipelineGeometry:
    """The geometry of what predicts beside a checkpoint's size, for a VAE of so many channels."""
    from theworld.pipeline_geometries import pipeline_geometry

    return pipeline_geometry(size, channels=channels, generation=generation)


def pipeline_of_repository(cosmos: str) -> PipelineGeometry:
    """The geometry of a Cosmos repository: a folder or a hub id; no weight is read.

    Raises:
        InputError: if it holds nothing that predicts, or a config cannot be read.
    """
    from theworld.checkpoints.bounded_files import read_json_object
    from theworld.cosmos_components import SCHEDULER, TEXT_ENCODER, TRANSFORMER, open_repository

    try:
        repository = open_repository(cosmos, (TRANSFORMER, SCHEDULER, TEXT_ENCODER), configs_alone=True)

        def values(component: str, file: str = "config.json") -> dict[str, Any]:
            found = read_json_object(Path(repository.folder, component, file))
            return {name: value for name, value in found.items() if name not in _PRIVATE}

        return PipelineGeometry(
            generation=_PIPELINES[repository.generation.pipeline],
            transformer_config=values(TRANSFORMER),
            text_encoder_config=values(TEXT_ENCODER),
            scheduler_config=values(SCHEDULER, "scheduler_config.json"),
        )
    except ValueError as error:
        raise InputError(str(error)) from error


class EmptyParts:
    """The parts of a world model, as `theworld.cosmos_components.RepositoryParts` gives them, without data.

    To be made inside a `FakeTensorMode`, and before anything is traced: building them takes no memory of the device.
    """

    def __init__(self, shape: PipelineGeometry) -> None:
        from theworld.cosmos_components import GENERATIONS
        from theworld.pipeline_geometries import build_text_encoder, build_transformer

        self._shape = shape
        self._transformer, self._text_encoder = _build(build_transformer, shape), _build(build_text_encoder, shape)
        self.generation = next(one for one in GENERATIONS if _PIPELINES[one.pipeline] == shape.generation)

    def transformer(self) -> Any:
        """The diffusion transformer, in bfloat16."""
        return self._transformer

    def scheduler(self) -> Any:
        """The scheduler, whose schedule is made without data too: it reads sigmas' values."""
        from torch.utils._python_dispatch import _disable_current_modes

        from theworld.pipeline_geometries import build_scheduler

        with _disable_current_modes():
            scheduler: Any = build_scheduler(self._shape)
        original = scheduler.set_timesteps

        @functools.wraps(original)
        def set_timesteps(*args: Any, sigmas: Any = None, **kwargs: Any) -> None:
            import numpy as np
            import torch

            if sigmas is not None:
                kwargs["sigmas"] = np.linspace(0, 1, len(sigmas))
            with _disable_current_modes():
                original(*args, **kwargs)
                shapes = {name: getattr(scheduler, name) for name in ("sigmas", "timesteps")}
            for name, made in shapes.items():
                setattr(scheduler, name, torch.zeros(made.shape, dtype=made.dtype))

        scheduler.set_timesteps = set_timesteps
        return scheduler

    def text_encoder(self) -> tuple[Any, Any]:
        """The text encoder, in bfloat16, and a tokenizer: the pipelines pad every prompt to one length."""
        return self._text_encoder, _Padded()


class _Padded:
    """In the place of a tokenizer."""

    def __call__(self, _prompt: Any, *, padding: str, **_: Any) -> Any:
        import torch

        length = _LONGEST_PROMPT if padding == "max_length" else 1
        ids = torch.zeros(1, length, dtype=torch.int64)
        return SimpleNamespace(input_ids=ids, attention_mask=torch.ones_like(ids))

    def apply_chat_template(self, _conversation: Any, **_: Any) -> list[int]:
        return [0] * _LONGEST_PROMPT


def _build(build: Any, shape: PipelineGeometry) -> Any:
    import torch
    from transformers.initialization import no_init_weights

    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cpu"), no_init_weights():
            model = build(shape)
    except (ValueError, TypeError, RuntimeError) as error:
        from theworld.checkpoints.error_text import summary

        raise InputError(f"the world model's configs describe none that can be built: {summary(error)}") from error
    finally:
        torch.set_default_dtype(before)
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    return model.requires_grad_(False).eval()
