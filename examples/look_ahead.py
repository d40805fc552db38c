"""Ask about a clip, and about what Cosmos predicts after it.

In: a Gemma 3 or TheWorld checkpoint, a Cosmos repository, a clip's file, a question. Out: the answer, on stdout; what
was done to the clip, and which guardrails looked at the prediction, on stderr. What cannot be read or predicted is one
line there, and exit code 2.
"""

import argparse
import sys
from collections.abc import Sequence

import torch

from theworld import RolloutConfig, TheWorld, TheWorldProcessor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Ask about a clip, and about what Cosmos predicts after it.")
    parser.add_argument("--model", required=True, help="a Gemma 3 or TheWorld checkpoint")
    parser.add_argument("--cosmos", help="the Cosmos repository; a TheWorld checkpoint names its own")
    parser.add_argument("--clip", required=True, help="a video, .npy or .npz file")
    parser.add_argument("--question", default="What happens next?")
    parser.add_argument("--fps", type=float, default=16.0, help="frames a second that a video is sampled to")
    parser.add_argument("--resize", default="crop", help="crop, pad or squash")
    parser.add_argument("--length", default="pad", help="pad or drop, to 1 + 4k frames")
    parser.add_argument("--steps", type=int, default=0, help="latent steps to predict, of 4 frames each")
    parser.add_argument("--prompt", default="The scene goes on as it began.", help="what Cosmos is told of the clip")
    parser.add_argument("--denoising-steps", type=int, default=35)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--safety-checker", choices=("cosmos_guardrail", "none"), default="cosmos_guardrail")
    parser.add_argument("--offload", action="store_true", help="keep what predicts on the CPU between uses")
    parser.add_argument("--cache", help="a folder that keeps predictions")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    asked = parser.parse_args(arguments)
    try:
        print(answer(asked))
    except ValueError as error:
        print(f"look_ahead: {error}", file=sys.stderr)
        return 2
    return 0


def answer(asked: argparse.Namespace) -> str:
    """Look ahead, and generate.

    Raises:
        ValueError: one line, for what cannot be read or predicted.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = TheWorld.from_pretrained(asked.model, cosmos_model_name_or_path=asked.cosmos, dtype=dtype).to(device)
    processor = TheWorldProcessor.from_pretrained(asked.model, world_config=model.world_config)
    content = [{"type": "video", "path": asked.clip}, {"type": "text", "text": asked.question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={
            "num_world_steps": asked.steps,
            "world_fps": asked.fps,
            "world_resize": asked.resize,
            "world_length": asked.length,
        },
    )
    ((note,),) = inputs.clip_notes
    print(note, file=sys.stderr)
    inputs = inputs.to(device)
    if num_world_steps := inputs.pop("num_world_steps", 0):
        rollout = RolloutConfig(
            prompt=asked.prompt,
            num_inference_steps=asked.denoising_steps,
            seed=asked.seed,
            safety_checker=None if asked.safety_checker == "none" else asked.safety_checker,
            offload=asked.offload,
            cache_dir=asked.cache,
        )
        rolled = model.roll_out(
            inputs.pop("world_frames"),
            inputs.pop("world_num_frames", None),
            num_world_steps=num_world_steps,
            rollout=rollout,
        )
        for guardrail in rolled.guardrails:
            said = "looked, and passed it" if guardrail.was_called else f"was not called: {guardrail.reason}"
            print(f"guardrail {guardrail.name}: {said}", file=sys.stderr)
        inputs |= {"world_latents": rolled.world_latents, "world_num_frames": rolled.world_num_frames}
    tokens = model.generate(**inputs, max_new_tokens=asked.max_new_tokens, do_sample=False)
    return processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


if __name__ == "__main__":
    sys.exit(main())
