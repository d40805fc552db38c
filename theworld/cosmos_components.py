"""The parts of a Cosmos repository that predict: its transformer, scheduler, tokenizer and text encoder.

In: a repository's folder or hub id. Out: its generation, and loaded components, none of whose weights is random.
No code of the repository's is run: it may only name the classes that its generation has.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from theworld.checkpoints.bounded_files import check_readable_path, is_folder, is_regular_file, read_json_object
from theworld.checkpoints.checkpoint_files import check_safetensors_folder
from theworld.checkpoints.error_text import file_error, not_reachable, one_line, shown_name, summary
from theworld.checkpoints.key_problems import require_complete
from theworld.checkpoints.tokenizer_files import load_tokenizer

INDEX = "model_index.json"
TRANSFORMER, TEXT_ENCODER, TOKENIZER, SCHEDULER = "transformer", "text_encoder", "tokenizer", "scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One generation of Cosmos-Predict, by the pipeline that its repositories name.

    Args:
        pipeline: the class that `_class_name` of `model_index.json` holds.
        scheduler: diffusers' class.
        text_encoder: transformers' class.
        takes_fps: whether its transformer is told of frames per second.
        max_observed_steps: how many latent steps it may be conditioned on; None for any number.
    """

    pipeline: str
    scheduler: str
    text_encoder: str
    takes_fps: bool
    max_observed_steps: int | None


GENERATIONS = (
    Generation(
        pipeline="Cosmos2VideoToWorldPipeline",
        scheduler="FlowMatchEulerDiscreteScheduler",
        text_encoder="T5EncoderModel",
        takes_fps=True,
        max_observed_steps=None,
    ),
    Generation(
        pipeline="Cosmos2_5_PredictBasePipeline",
        scheduler="UniPCMultistepScheduler",
        text_encoder="Qwen2_5_VLForConditionalGeneration",
        takes_fps=False,
        max_observed_steps=2,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A Cosmos repository that predicts, as a folder on this machine."""

    folder: Path
    generation: Generation

    def holds(self, component: str) -> bool:
        """Whether the component's folder is there."""
        return is_folder(self.folder / component)


def has_world_model(cosmos_model_name_or_path: str) -> bool:
    """Whether a folder holds what predicts, and not only a VAE. A hub id is not looked at: False."""
    return is_folder(Path(cosmos_model_name_or_path, TRANSFORMER))


def open_repository(
    cosmos_model_name_or_path: str, components: tuple[str, ...], *, configs_alone: bool = False
) -> Repository:
    """Find a repository, from the hub if it is no folder here, and read its generation.

    Args:
        components: the folders that are needed.
        configs_alone: fetch no weights from the hub.

    Raises:
        ValueError: if it is no Cosmos-Predict repository, or lacks a component.
    """
    check_readable_path(cosmos_model_name_or_path)
    folder = Path(cosmos_model_name_or_path)
    if not is_folder(folder):
        folder = _from_hub(cosmos_model_name_or_path, components, "*.json" if configs_alone else "*")
    if not is_regular_file(folder / INDEX):
        raise file_error(folder, f"no {INDEX}, so nothing here predicts", "name the whole Cosmos repository")
    index = read_json_object(folder / INDEX)
    found = [generation for generation in GENERATIONS if generation.pipeline == index.get("_class_name")]
    if not found:
        known = " or ".join(generation.pipeline for generation in GENERATIONS)
        named = shown_name(repr(index.get("_class_name")))
        raise file_error(folder / INDEX, f"_class_name is {named}", f"a rollout needs {known}")
    repository = Repository(folder=folder, generation=found[0])
    for component in components:
        if not repository.holds(component):
            raise file_error(
                folder,
                f"it has no {component} folder",
                "name the whole Cosmos repository; a VAE alone predicts nothing",
            )
    return repository


def _from_hub(name: str, components: tuple[str, ...], files: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [INDEX, *(f"{component}/{files}" for component in components)]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*.bin", "*.pt", "*.pth"]))
    except (OSError, ValueError) as error:
        raise not_reachable(name, error) from error


def load_transformer(repository: Repository, *, dtype: torch.dtype) -> Any:
    """Load the diffusion transformer on the CPU, frozen.

    Raises:
        ValueError: if its files are not whole, or not those of its config.
    """
    from diffusers import CosmosTransformer3DModel

    return _load_model(CosmosTransformer3DModel, repository.folder / TRANSFORMER, "diffusers", torch_dtype=dtype)


def load_text_encoder(repository: Repository, *, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load the text encoder on the CPU, frozen, and its tokenizer.

    Raises:
        ValueError: if files are not whole, or not those of their configs.
    """
    import transformers

    model_class = getattr(transformers, repository.generation.text_encoder)
    model = _load_model(model_class, repository.folder / TEXT_ENCODER, "transformers", dtype=dtype)
    return model, load_tokenizer(str(repository.folder / TOKENIZER))


def load_scheduler(repository: Repository) -> Any:
    """Load the scheduler's settings.

    Raises:
        ValueError: if they are another scheduler's.
    """
    import diffusers

    name = repository.generation.scheduler
    path = repository.folder / SCHEDULER / "scheduler_config.json"
    found = read_json_object(path).get("_class_name")
    if found != name:
        raise file_error(path, f"_class_name is {shown_name(repr(found))}", f"its generation has {name}")
    try:
        return getattr(diffusers, name).from_pretrained(str(path.parent))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{one_line(path)}: {summary(error)}") from error


class RepositoryParts:
    """The parts of one repository, loaded when they are asked for.

    Args:
        cosmos_model_name_or_path: a folder or a hub id.
        dtype: of the transformer and the text encoder.

    Raises:
        ValueError: if it is no repository that predicts.
    """

    def __init__(self, cosmos_model_name_or_path: str, dtype: torch.dtype) -> None:
        self._name, self._dtype = cosmos_model_name_or_path, dtype
        self.repository = open_repository(cosmos_model_name_or_path, (TRANSFORMER, SCHEDULER))

    @property
    def generation(self) -> Generation:
        """What its pipeline is and takes."""
        return self.repository.generation

    def transformer(self) -> Any:
        """Load the transformer: see `load_transformer`."""
        return load_transformer(self.repository, dtype=self._dtype)

    def scheduler(self) -> Any:
        """Load the scheduler: see `load_scheduler`."""
        return load_scheduler(self.repository)

    def text_encoder(self) -> tuple[Any, Any]:
        """Load the text encoder, which a repository without prompts may lack, and its tokenizer."""
        repository = open_repository(self._name, (TEXT_ENCODER, TOKENIZER))
        return load_text_encoder(repository, dtype=self._dtype)


def _load_model(model_class: Any, folder: Path, layout: Literal["diffusers", "transformers"], **arguments: Any) -> Any:
    check_safetensors_folder(folder, layout)
    try:
        model, info = model_class.from_pretrained(
            str(folder), use_safetensors=True, output_loading_info=True, **arguments
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{one_line(folder)}: cannot be loaded as {model_class.__name__} ({summary(error)})"
        ) from error
    require_complete(folder, info)
    return model.requires_grad_(False).eval()
