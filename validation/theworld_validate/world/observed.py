"""What is observed: does the branch see a picture, a clip's beginning, its end and its order as they are?

In: a loaded path. Out: of each check measurements and findings. An image is a clip of one frame, to the bit; a
clip's first step is that of its first frame, and what comes after a clip changes nothing, since the VAE looks back
alone; a clip that runs backwards is another; latents that are handed in are those that frames become, to the bit.
"""

# C channels, F frames, T latent steps, H W latent grid

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from theworld_validate.results import Finding
from theworld_validate.world.path import PROMPT, TOLERANCE, LoadedPath, Outcome

_MORE_FRAMES = 4  # one latent step
_CORNER_CELLS = 4  # each way: times and forms are the same at every size, and the smallest costs least


def corner_of(path: LoadedPath) -> LoadedPath:
    """The path with a corner of its clip, unless the model takes one size of frames alone."""
    world_config = path.model.world_config
    if world_config.binds_frame_size:
        return path
    side = _CORNER_CELLS * world_config.spatial_compression
    return replace(path, clip=path.clip[..., :side, :side])


def image_as_clip(path: LoadedPath) -> Outcome:
    """An image given as a picture against the same one given as a clip of one frame."""
    import numpy as np
    import torch
    from PIL import Image

    frame_CHW = path.clip[:, 0]
    pixels_HWC = ((frame_CHW.permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    picture = Image.fromarray(pixels_HWC)
    # The processor's part: the same frames of every form that a picture has. The model's: the same tokens of them.
    forms = {"a PIL image": picture, "a list of one": [picture], "an array": pixels_HWC, "a clip": pixels_HWC[None]}
    frames = {form: path.processor.to_frames(given) for form, given in forms.items()}
    unequal = [form for form, made in frames.items() if not torch.equal(made, frames["a clip"])]
    as_image, as_clip = (path.ask([PROMPT], [given]) for given in (frame_CHW, frame_CHW[:, None]))
    with torch.no_grad():
        tokens = [path.model.get_world_features(inputs["world_frames"]) for inputs in (as_image, as_clip)]
    if not torch.equal(*tokens):
        unequal.append("a tensor")
    findings = [
        Finding(
            code="world.image",
            location="processor",
            message=f"{form} becomes other frames than a clip of that one picture",
            expected="equal bits",
            actual="other bits",
            cause="pictures and clips are scaled or ordered in two ways",
            remedy="make both ready by the same rules: theworld.clips.frames",
        )
        for form in unequal
    ]
    return {"compared": len(forms)}, findings


def first_step(path: LoadedPath) -> Outcome:
    """A clip's first latent step against that of its first frame alone: the VAE is causal."""
    clip = _moving(path.clip)
    worst = _relative(_encode(path, clip)[:, :, :1], _encode(path, clip[:, :1]))
    return _bounded(
        path,
        worst,
        code="world.first_step",
        message=f"a clip's first latent step differs from its first frame's by {worst:.2e} of their range",
        cause="frames that come later reach earlier latents: the VAE is not causal, or is not fed in order",
    )


def padding(path: LoadedPath) -> Outcome:
    """A clip's world tokens, alone and with noise after its last frame that `world_num_frames` leaves out."""
    import torch

    clip = path.clip
    noise = torch.rand(3, _MORE_FRAMES, *clip.shape[2:]) * 2 - 1
    longer = torch.cat([clip, noise], dim=1)[None].to(path.model.device)
    number = torch.tensor([clip.shape[1]], device=path.model.device)
    with torch.no_grad():
        alone = path.model.get_world_features(clip[None].to(path.model.device))
        padded = path.model.get_world_features(longer, number)
    worst = _relative(padded, alone) if padded.shape == alone.shape else float("inf")
    return _bounded(
        path,
        worst,
        code="world.padding",
        message=f"frames after a clip's last change its world tokens, by {worst:.2e} of their range",
        cause="padding is encoded with the clip: the VAE is not causal, or world_num_frames is not heeded",
    )


def time_reversed(path: LoadedPath) -> Outcome:
    """A clip that runs backwards changes the logits."""
    clip = _moving(path.clip)
    return path.logits_that_differ(
        clip,
        clip.flip(1),
        code="world.time",
        message="the last logits are the same for a clip and for the clip that runs backwards",
        cause="the order of frames is lost: latent steps are mixed, or one step is repeated",
        remedy="look at the order of world tokens and at the temporal embedding",
    )


def latents_for_frames(path: LoadedPath) -> Outcome:
    """Latents that are handed in against those that the model makes of the frames, to the bit."""
    import torch

    inputs = path.ask([PROMPT], [path.clip])
    handed = {name: value for name, value in inputs.items() if name != "world_frames"}
    handed["world_latents"] = _encode(path, path.clip)
    with torch.no_grad():
        of_frames, of_latents = path.model(**inputs).logits, path.model(**handed).logits
    difference = float((of_frames.float() - of_latents.float()).abs().max())
    findings = []
    if not torch.equal(of_frames, of_latents):
        findings.append(
            Finding(
                code="world.latents",
                location="world_projection",
                message=f"logits of handed latents differ from those of their frames by up to {difference:.2e}",
                expected=0.0,
                actual=difference,
                cause="latents are normalised twice or not at all, or take another way to their places",
                remedy="hand in what world_encoder returns, and let both ways meet before the projection",
            )
        )
    return {"max_abs_logit_difference": difference}, findings


OBSERVED: tuple[tuple[str, str, Callable[[LoadedPath], Outcome]], ...] = (
    ("image", "an image against a clip of one frame", image_as_clip),
    ("first_step", "a clip's first step against its first frame", first_step),
    ("padding", "frames after a clip's last", padding),
    ("time", "a clip that runs backwards", time_reversed),
    ("latents", "latents against their frames", latents_for_frames),
)


def _moving(clip: Any) -> Any:
    """A clip that is another one backwards: the one at hand, or its first frame and then its negative."""
    import torch

    if clip.shape[1] > 1 and not torch.equal(clip, clip.flip(1)):
        return clip
    return torch.cat([clip[:, :1], -clip[:, :1].expand(-1, _MORE_FRAMES, -1, -1)], dim=1)


def _encode(path: LoadedPath, clip: Any) -> Any:
    """Latents (1, C, T, H, W) of one clip."""
    import torch

    with torch.no_grad():
        return path.model.world_encoder(clip[None].to(path.model.device))


def _relative(actual: Any, expected: Any) -> float:
    """The largest difference, over the largest value that is expected."""
    expected = expected.float()
    return float((actual.float() - expected).abs().max() / expected.abs().max())


def _bounded(path: LoadedPath, worst: float, *, code: str, message: str, cause: str) -> Outcome:
    tolerance = TOLERANCE[path.dtype]
    findings = []
    if not worst <= tolerance:
        findings.append(
            Finding(
                code=code,
                location="world_encoder",
                message=message,
                expected=tolerance,
                actual=None if worst == float("inf") else worst,
                cause=cause,
                remedy="encode with diffusers' AutoencoderKLWan, all frames at once and in order",
            )
        )
    return {"max_relative_difference": None if worst == float("inf") else worst, "tolerance": tolerance}, findings
