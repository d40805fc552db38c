"""Predicted latents kept on disk, so that a clip is looked ahead from once.

In: observed latents and what was asked. Out: the predicted ones, if they are there. A file's name is the digest of all
that decides its content: the observed latents, the world model's files, the prompt or its embeddings, and the numbers.
The world model is not loaded to read it.
"""

# C latent channels, T observed latent steps, n predicted ones, H W latent grid

import functools
import json
import logging
from pathlib import Path

import torch

from theworld.checkpoints.bounded_files import read_json_object
from theworld.checkpoints.checkpoint_files import digest_weights, file_digest
from theworld.checkpoints.tensor_files import publish_tensors, update_digest
from theworld.cosmos_components import SCHEDULER, TEXT_ENCODER, TOKENIZER, TRANSFORMER, Repository, open_repository
from theworld.rollout_config import RolloutConfig

log = logging.getLogger("theworld.rollout")
_KEY = "predicted"


class RolloutCache:
    """Reads and writes predicted latents; several processes may share its folder.

    Args:
        folder: made if it is not there.
        name: of the repository that predicts: a folder or a hub id.
        repository: the same, opened.
        dtype: that it computes in.
    """

    def __init__(self, folder: str, name: str, repository: Repository, dtype: torch.dtype) -> None:
        self._folder, self._name, self._repository, self._dtype = Path(folder), name, repository, dtype
        self._folder.mkdir(parents=True, exist_ok=True)

    def read(self, path: Path) -> torch.Tensor | None:
        """The predicted latents (C, n, H, W), float32, on the CPU; None if they are not there."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not path.is_file():
            return None
        try:
            return load_file(path)[_KEY]
        except (SafetensorError, KeyError, OSError):
            log.warning("%s cannot be read: the clip is rolled out again", path)
            return None

    def write(self, predicted_CTHW: torch.Tensor, path: Path) -> None:
        """Keep predicted latents; the file appears whole or not at all."""
        publish_tensors({_KEY: predicted_CTHW.cpu().contiguous()}, path)

    def path_of(self, observed_CTHW: torch.Tensor, num_world_steps: int, config: RolloutConfig) -> Path:
        """The file of one rollout, whether it is there or not."""
        import diffusers
        import xxhash

        digest = xxhash.xxh3_128(_digest_of(self._repository.folder, (TRANSFORMER,), SCHEDULER).encode())
        asked = {
            "pipeline": self._repository.generation.pipeline,
            "diffusers": diffusers.__version__,
            "dtype": str(self._dtype),
            "steps": num_world_steps,
            "num_inference_steps": config.num_inference_steps,
            "guidance_scale": float(config.guidance_scale),
            "fps": config.fps if self._repository.generation.takes_fps else None,
            "seed": config.seed,
            "prompt": config.prompt,
            "negative_prompt": config.negative_prompt if config.uses_guidance else None,
        }
        digest.update(json.dumps(asked, sort_keys=True).encode())
        negative = config.negative_prompt_embeds if config.uses_guidance else None
        if config.prompt is not None or (config.uses_guidance and negative is None):
            folder = open_repository(self._name, (TEXT_ENCODER, TOKENIZER)).folder
            digest.update(_digest_of(folder, (TEXT_ENCODER,), TOKENIZER).encode())
        for tensor in (observed_CTHW, config.prompt_embeds, negative):
            if tensor is None:
                digest.update(b"none")
            else:
                update_digest(digest, tensor)
        return self._folder / f"{digest.hexdigest()}.safetensors"


@functools.lru_cache(maxsize=8)
def _digest_of(repository: Path, models: tuple[str, ...], settings: str) -> str:
    """Digest of models' weights and configs and of all files of a folder of settings; once a process."""
    parts = []
    for name in models:
        layout = "diffusers" if name == TRANSFORMER else "transformers"
        parts += [
            digest_weights(repository / name, layout)[0],
            json.dumps(read_json_object(repository / name / "config.json")),
        ]
    parts += [f"{path.name} {file_digest(path)}" for path in sorted((repository / settings).iterdir())]
    return "\n".join(parts)
