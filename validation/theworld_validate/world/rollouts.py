"""Looking ahead: does what Cosmos predicts come from its own pipeline, and stay out of the model?

In: a loaded model with its branch on, a Cosmos repository, a clip. Out: four checks: a seed is a rollout; latents are
those of diffusers' pipeline, to the bit; a saved model rolls out the same; and the world model is no part of the model.
One skipped check where the repository holds a VAE alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from theworld_validate.results import CheckResult, Finding, Status
from theworld_validate.world.path import Outcome, run_check

NUM_STEPS = 2
_SKIPPED = "world.rollout"
_PIXELS_OF_PIPELINE = 8
_BLOCKS = "transformer_blocks."  # in the names of the diffusion transformer's tensors, and of no others


def check_rollouts(
    model: Any, cosmos: str, clip: Any, *, seed: int, progress: Callable[[str], None]
) -> Iterator[CheckResult]:
    """Check what a model predicts from a clip.

    Args:
        model: a `TheWorld` with its branch on.
        cosmos: the repository that it was loaded with.
        clip: (3, F, height, width), float, in [-1, 1].
    """
    from theworld import RolloutConfig

    if (reason := _why_not(model, cosmos, clip)) is not None:
        yield CheckResult(id=_SKIPPED, status=Status.SKIPPED, reason=reason, seconds=0.0)
        return
    asked = RolloutConfig(prompt="What happens next.", safety_checker=None, num_inference_steps=3, seed=seed)
    path = RolloutChecks(model=model, cosmos=cosmos, clip=clip, asked=asked)
    for name, step, check in (
        ("outside", "a rollout leaves the model as it is", path.outside),
        ("seed", "seeds of a rollout", path.seed),
        ("reference", "a rollout against diffusers' own", path.reference),
        ("saved", "a rollout of the saved model", path.saved),
    ):
        progress(step)
        yield run_check(f"{_SKIPPED}_{name}", check)
    model.release_world_model()


def _why_not(model: Any, cosmos: str, clip: Any) -> str | None:
    """Why nothing can be predicted here; None if it can."""
    from theworld.cosmos_components import has_world_model

    if not has_world_model(cosmos):
        return (
            f"{cosmos} is no folder that holds a transformer, so nothing predicts; name a whole Cosmos repository, or "
            "make a tiny one: theworld-validate synth DIR --pipeline, then theworld-validate world --cosmos DIR/cosmos"
        )
    if any(side % 16 for side in clip.shape[2:]):
        return f"the clip is {clip.shape[2]} x {clip.shape[3]}, and Cosmos predicts frames of multiples of 16 pixels"
    if model.world_config.spatial_compression != _PIXELS_OF_PIPELINE:
        return f"diffusers' pipeline has {_PIXELS_OF_PIPELINE} pixels a latent cell, and this VAE another number"
    return None


@dataclass(frozen=True, kw_only=True)
class RolloutChecks:
    """One loaded model and one clip; each method is one check."""

    model: Any
    cosmos: str
    clip: Any
    asked: Any

    def roll(self, model: Any, **changes: Any) -> Any:
        """Latents of the clip's steps and of those predicted after them, (C, T + n, H, W)."""
        import torch

        frames = self.clip[None].to(model.device)
        with torch.no_grad():
            rolled = model.roll_out(frames, num_world_steps=NUM_STEPS, rollout=replace(self.asked, **changes))
        return rolled.world_latents[0].cpu()

    def outside(self) -> Outcome:
        """The model's tensors and counts, before and after a rollout loads what predicts; and its output."""
        self.model.release_world_model()
        before, num_before = set(self.model.state_dict()), _count(self.model)
        latents = self.roll(self.model)
        added, num_after = sorted(set(self.model.state_dict()) ^ before), _count(self.model)
        findings = []
        if added or num_after != num_before:
            findings.append(
                Finding(
                    code="world.rollout_in_model",
                    location=added[0] if added else "parameters",
                    message=f"after a rollout the model has other tensors ({len(added)}), {num_after:,} parameters",
                    expected=num_before,
                    actual=num_after,
                    cause="what predicts was made a module of the model",
                    remedy="hold it outside of the module tree: it would be counted, saved, moved and trained",
                )
            )
        return {"parameters": num_before, "observed_steps": latents.shape[1] - NUM_STEPS, "steps": NUM_STEPS}, findings

    def seed(self) -> Outcome:
        """Twice the same seed, and another one."""
        first, again = self.roll(self.model), self.roll(self.model)
        other = self.roll(self.model, seed=self.asked.seed + 1)
        findings = []
        if not _same_bits(first, again):
            findings.append(
                _difference(
                    "world.rollout_not_repeated",
                    "two rollouts with one seed differ",
                    first,
                    again,
                    cause="noise that no seed decides, or kernels that are not deterministic",
                    remedy="draw all noise from the seed's own generator",
                )
            )
        if _same_bits(first[:, -NUM_STEPS:], other[:, -NUM_STEPS:]):
            findings.append(
                Finding(
                    code="world.rollout_seed",
                    location="roll_out",
                    message="another seed gives the same rollout",
                    expected="other latents",
                    actual="equal latents",
                    cause="the seed does not reach the noise",
                    remedy="draw the noise from RolloutConfig.seed",
                )
            )
        return {"seed": self.asked.seed, "max_abs_difference_of_seeds": float((first - other).abs().max())}, findings

    def reference(self) -> Outcome:
        """The same conditioning and noise through diffusers' own pipeline, loaded by diffusers."""
        import torch

        from theworld_validate.world.reference_pipeline import run_reference

        self.model.release_world_model()  # room for the other
        dtype, device = self.model.world_encoder.vae.dtype, str(self.model.device)
        reference = run_reference(self.cosmos, self.clip, NUM_STEPS, self.asked, dtype=dtype, device=device)
        with torch.no_grad():
            rolled = self.model.roll_out(
                world_latents=reference.observed[None], num_world_steps=NUM_STEPS, rollout=self.asked
            )
        expected = torch.cat([reference.observed, reference.predicted], dim=1).cpu()
        made = rolled.world_latents[0].cpu()
        findings = []
        if not _same_bits(made, expected):
            findings.append(
                _difference(
                    "world.rollout_reference",
                    "a rollout differs from diffusers' own pipeline on the same conditioning and noise",
                    expected,
                    made,
                    cause="conditioning, masks, noise or the schedule are not the pipeline's",
                    remedy="look at theworld.cosmos_pipelines and at what this release of diffusers changed",
                )
            )
        measurements = {
            "latents_compared": made.numel(),
            "denoising_steps_of_reference": reference.num_denoising_steps,
            "reference_resizes_padding_with_torchvision": reference.resizes_padding,
            "guardrails_not_called": ", ".join(g.name for g in rolled.guardrails if not g.was_called),
        }
        return measurements, findings

    def saved(self) -> Outcome:
        """The model saved and loaded again: its rollout, and that nothing of the world model is in its files."""
        from theworld.checkpoints.checkpoint_files import list_safetensors, read_safetensors_header
        from theworld_validate.fingerprint.scratch import scratch_folder

        before = self.roll(self.model)
        num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())
        with scratch_folder(num_bytes) as folder:
            self.model.save_pretrained(folder / "model")
            keys = {key for path in list_safetensors(Path(folder, "model")) for key in read_safetensors_header(path)}
            foreign = sorted(key for key in keys if _BLOCKS in key)
            measurements = {"saved_tensors": len(keys)}
            if foreign:
                saved_weights = Finding(
                    code="world.rollout_saved_weights",
                    location=foreign[0],
                    message=f"the saved model holds {len(foreign)} tensors of what predicts",
                    expected=0,
                    actual=len(foreign),
                    cause="what predicts was made a module of the model",
                    remedy="hold it outside of the module tree",
                )
                return measurements, [saved_weights]
            model = type(self.model).from_pretrained(folder / "model", dtype=self.model.dtype)
            after = self.roll(model.to(self.model.device))
        findings = []
        if not _same_bits(before, after):
            findings.append(
                _difference(
                    "world.rollout_after_saving",
                    "the saved model's rollout differs",
                    before,
                    after,
                    cause="the VAE, its statistics or the repository's name do not come back from the files",
                    remedy="compare the two models' config.json and vae weights: theworld-validate diff",
                )
            )
        return measurements, findings


def _count(model: Any) -> int:
    return sum({id(parameter): parameter.numel() for parameter in model.parameters()}.values())


def _same_bits(one: Any, other: Any) -> bool:
    """Whether two tensors have one dtype, shape and pattern of bits; 0 and -0 differ, and NaN is like itself."""
    import torch

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def _difference(code: str, message: str, expected: Any, actual: Any, *, cause: str, remedy: str) -> Finding:
    if expected.shape != actual.shape:
        return Finding(
            code=code,
            location="roll_out",
            message=message,
            expected=str(tuple(expected.shape)),
            actual=str(tuple(actual.shape)),
            cause=cause,
            remedy=remedy,
        )
    steps = (expected.float() != actual.float()).flatten(2).any(-1).any(0).nonzero().flatten().tolist()
    worst = float((expected.float() - actual.float()).abs().max())
    return Finding(
        code=code,
        location=f"latent step {steps[0]}" if steps else "roll_out",
        message=f"{message}, by up to {worst:.2e}",
        expected=0.0,
        actual=worst,
        cause=cause,
        remedy=remedy,
    )
