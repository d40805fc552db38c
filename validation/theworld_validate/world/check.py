"""The world path: does the branch do what it is for, where it is on?

In: a Gemma 3 checkpoint, a Cosmos repository, and optionally a clip. Out: checks of the branch: frames become the world
tokens that the prompt has room for, they change the logits, gradients reach the branch and nothing else, and a batch of
rows of different lengths answers as its rows do one by one; then those of what is observed (`world.observed`) and of
what is predicted (`world.rollouts`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from theworld.published_names import published_name
from theworld_validate.results import CheckResult, Finding, InputError
from theworld_validate.subjects.subject import Subject
from theworld_validate.world.observed import OBSERVED, corner_of
from theworld_validate.world.path import PROMPT, TOLERANCE, LoadedPath, Outcome, run_check
from theworld_validate.world.rollouts import check_rollouts

SIDE = 64  # pixels of the default clip: 64 world tokens a latent step


def check_world(
    subject: Subject, *, frames: Path | None = None, progress: Callable[[str], None] = lambda step: None
) -> Iterator[CheckResult]:
    """Load TheWorld with its branch on, and check the world path.

    Args:
        subject: with a Cosmos repository.
        frames: a clip's file: a video, an .npy or an .npz file; a random clip of 5 frames if None.

    Raises:
        InputError: if a checkpoint or the clip cannot be used.
    """
    import torch

    from theworld import TheWorldProcessor

    checkpoint, dtype, seed = subject.checkpoint, subject.dtype, subject.seed
    progress("loading the world branch")
    model = subject.load()
    try:
        processor = TheWorldProcessor.from_pretrained(checkpoint, world_config=model.world_config)
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint}: no usable processor ({' '.join(str(error).split())})") from error

    if frames is None:
        side = model.world_config.frame_size if model.world_config.binds_frame_size else SIDE
        clip = torch.rand(3, 5, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    else:
        try:
            clip = processor.to_frames(frames)
        except ValueError as error:
            raise InputError(str(error)) from error
    path = WorldPath(model=model, processor=processor, clip=clip, dtype=dtype)
    for name, step, check in (
        ("tokens", "world tokens", path.tokens),
        ("effect", "effect on the logits", path.effect),
        ("gradients", "gradients", path.gradients),
        ("batch", "batch against rows", path.batch),
        *((name, step, partial(check, corner_of(path))) for name, step, check in OBSERVED),
    ):
        progress(step)
        with _draw_from(seed):
            result = run_check(f"world.{name}", check)
        yield result
    assert subject.cosmos is not None
    with _draw_from(seed):
        yield from check_rollouts(model, subject.cosmos, clip, seed=seed, progress=progress)


@contextmanager
def _draw_from(seed: int) -> Any:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True, kw_only=True)
class WorldPath(LoadedPath):
    """The path, and the checks of the branch; each method is one check."""

    def tokens(self) -> Outcome:
        import torch

        inputs = self.ask([PROMPT], [self.clip])
        with torch.no_grad():
            features = self.model.get_world_features(inputs["world_frames"])
        placeholders = int((inputs["input_ids"] == self.model.world_config.world_token_id).sum())
        non_finite = int((~torch.isfinite(features)).sum())
        findings = []
        if features.shape[0] != placeholders:
            findings.append(
                Finding(
                    code="world.token_count",
                    location="world_projection",
                    message=f"frames make {features.shape[0]} world tokens, the prompt has {placeholders} placeholders",
                    expected=placeholders,
                    actual=int(features.shape[0]),
                    cause="processor and model count world tokens differently",
                    remedy="use the TheWorldProcessor of the model's own release, and one frame size",
                )
            )
        if non_finite:
            findings.append(
                Finding(
                    code="world.non_finite",
                    location="world_encoder",
                    message=f"{non_finite:,} of {features.numel():,} world features are not finite",
                    expected=0,
                    actual=non_finite,
                    cause="the VAE overflows in this dtype, or its weights are damaged",
                    remedy="load in bfloat16 or float32, and check the VAE's files",
                )
            )
        measurements = {
            "world_tokens": int(features.shape[0]),
            "hidden_size": int(features.shape[1]),
            "frames": int(self.clip.shape[1]),
        }
        return measurements, findings

    def effect(self) -> Outcome:
        return self.logits_that_differ(
            self.clip,
            -self.clip,
            code="world.no_effect",
            message="the last logits are the same for a clip and for its negative",
            cause="world tokens do not reach the text model",
            remedy="check that placeholders are in input_ids and that attention may see them",
        )

    def gradients(self) -> Outcome:
        inputs = self.ask([PROMPT], [self.clip])
        self.model.zero_grad(set_to_none=True)
        self.model(**inputs, labels=inputs["input_ids"]).loss.backward()
        findings = []
        reached = 0
        for name, parameter in self.model.named_parameters():
            has_gradient = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            reached += has_gradient
            if has_gradient != published_name(name).startswith(("world_projection.", "temporal_embedding.")):
                findings.append(
                    Finding(
                        code="world.gradient_leak" if has_gradient else "world.no_gradient",
                        location=name,
                        message=f"{name} {'receives a' if has_gradient else 'receives no'} gradient",
                        expected=not has_gradient,
                        actual=has_gradient,
                        cause="the freeze preset does not cover it" if has_gradient else "it takes no part in the loss",
                        remedy="look at theworld.components and theworld.freezing",
                    )
                )
        self.model.zero_grad(set_to_none=True)
        return {"parameters_with_gradient": reached, "parameters": len(list(self.model.parameters()))}, findings

    def batch(self) -> Outcome:
        import torch

        prompts = [PROMPT, f"Look. {PROMPT} And after that, what else?", "No clip at all."]
        clips = [self.clip, self.clip[:, :1], None]
        worst = 0.0
        with torch.no_grad():
            together = self.ask(prompts, clips)
            batch_logits = self.model(**together).logits.float()
            for row, (prompt, its_clip) in enumerate(zip(prompts, clips, strict=True)):
                inputs = self.ask([prompt], [its_clip])
                alone = self.model(**inputs).logits[0].float()
                # Padding is on the left: a row's own tokens are the last ones.
                padded = batch_logits[row, -alone.shape[0] :]
                worst = max(worst, float((padded - alone).abs().max() / alone.abs().max()))
        tolerance = TOLERANCE[self.dtype]
        findings = []
        if not worst <= tolerance:
            findings.append(
                Finding(
                    code="world.batch",
                    location="lm_head",
                    message=f"a row's logits in a batch differ from its own by {worst:.2e} of their range",
                    expected=tolerance,
                    actual=worst,
                    cause="padding, positions or world tokens of one row reach another",
                    remedy="pad on the left, and pass the attention_mask that the processor makes",
                )
            )
        return {"rows": len(prompts), "max_relative_difference": worst, "tolerance": tolerance}, findings
