"""Training samples of noise: a picture, a clip of one latent step, a question and an answer each.

In: the words of each sample, and sizes. Out: their files, and `samples.jsonl`, as `theworld-train` reads it.
"""

import json
from collections.abc import Sequence
from pathlib import Path


def write_noise_samples(folder: Path, words: Sequence[tuple[str, str]], *, image_side: int, frame_size: int) -> Path:
    """Write a sample for each question and answer; the same words and sizes give the same bytes."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    draw, lines = np.random.default_rng(0), []
    for i, (question, answer) in enumerate(words):
        np.save(folder / f"{i}.npy", draw.integers(0, 256, (1, frame_size, frame_size, 3), dtype=np.uint8))
        Image.fromarray(draw.integers(0, 256, (image_side, image_side, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        content = [{"type": "image", "path": f"{i}.png"}, {"type": "world", "path": f"{i}.npy"}]
        content.append({"type": "text", "text": question})
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": messages}) + "\n")
    file = folder / "samples.jsonl"
    file.write_text("".join(lines), encoding="utf-8")
    return file
