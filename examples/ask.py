"""Ask about a video.

In: a Gemma 3 or TheWorld checkpoint, a Cosmos repository, a video's file, a question. Out: the answer, on stdout; what
was done to the video, on stderr. What cannot be read is one line there, and exit code 2.
"""

import argparse
import sys
from collections.abc import Sequence

import torch

from theworld import TheWorld, TheWorldProcessor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Ask about a video.")
    parser.add_argument("video", help="a video, or frames as an .npy or .npz file")
    parser.add_argument("question", nargs="?", default="What happens next?")
    parser.add_argument("--model", required=True, help="a Gemma 3 or TheWorld checkpoint")
    parser.add_argument("--cosmos", help="the Cosmos repository; a TheWorld checkpoint has its own")
    parser.add_argument("--fps", type=float, default=16.0, help="frames a second that the video is sampled to")
    parser.add_argument("--resize", default="crop", help="crop, pad or squash")
    parser.add_argument("--length", default="pad", help="pad or drop, to 1 + 4k frames")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    asked = parser.parse_args(arguments)
    try:
        print(answer(asked))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def answer(asked: argparse.Namespace) -> str:
    """Read the video, and generate.

    Raises:
        ValueError: one line, for what cannot be read.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = TheWorld.from_pretrained(asked.model, cosmos_model_name_or_path=asked.cosmos, dtype=dtype).to(device)
    processor = TheWorldProcessor.from_pretrained(asked.model, world_config=model.world_config)
    content = [{"type": "video", "path": asked.video}, {"type": "text", "text": asked.question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"world_fps": asked.fps, "world_resize": asked.resize, "world_length": asked.length},
    )
    ((note,),) = inputs.clip_notes
    print(note, file=sys.stderr)
    tokens = model.generate(**inputs.to(device), max_new_tokens=asked.max_new_tokens, do_sample=False)
    return processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


if __name__ == "__main__":
    sys.exit(main())
