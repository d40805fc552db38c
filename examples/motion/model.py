"""The tiny model that the example trains: Gemma 3's and the VAE's own classes, smaller still, with random weights.

In: a folder, a seed, and some pairs of clips. Out: FOLDER/gemma and FOLDER/cosmos, in the format of the released ones.
"""

import json
from pathlib import Path

import numpy as np
from clips import Pair

from theworld.geometries import Geometry
from theworld.synthetic import write_checkpoint

# Layers' windows are wider than a prompt, as the 4B model's are; the vocabulary is what the tokenizer needs.
MOTION = Geometry(
    gemma_config={
        "text_config": {
            "vocab_size": 576,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 512,
            "max_position_embeddings": 4096,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "image_size": 28,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "patch_size": 7,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 4,
        "boi_token_index": 510,
        "eoi_token_index": 511,
        "image_token_index": 512,
    },
    vae_config={"base_dim": 8, "num_res_blocks": 1, "z_dim": 16},
    num_tokens=513,
    max_shard_bytes=10_000_000,
)
_CLIPS_A_BATCH = 16


def write_model(folder: Path, pairs: list[Pair], *, seed: int = 0) -> None:
    """Write the model, and give its VAE the statistics of its own latents.

    A released VAE comes with the mean and the deviation of each latent channel over its training clips, by which
    latents are normalised. A random one comes with a real one's, which do not fit it: its latents would vary little
    around a constant, and learning takes about twice as long.

    Args:
        folder: a new or empty one.
        pairs: the clips that the statistics are measured on.

    Raises:
        ValueError: if the folder holds something.
    """
    import torch

    from theworld.world_encoder import load_vae

    checkpoint = write_checkpoint(MOTION, folder, seed=seed)
    vae = load_vae(str(checkpoint.cosmos), dtype=torch.float32)
    frames = torch.from_numpy(np.concatenate([pair.clips for pair in pairs])).permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.no_grad():
        latents = torch.cat([vae.encode(some).latent_dist.mode() for some in frames.split(_CLIPS_A_BATCH)])
    path = checkpoint.cosmos / "vae" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["latents_mean"] = latents.mean((0, 2, 3, 4)).tolist()
    config["latents_std"] = latents.std((0, 2, 3, 4)).tolist()
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
