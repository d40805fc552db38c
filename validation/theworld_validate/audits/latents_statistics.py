"""The VAE's latents statistics: are they there, and does the world encoder apply them?

In: a loaded model with a world branch. Out: findings. What the encoder gives is compared with a recomputation in
float64 from the VAE's config.
"""

from typing import Any

from theworld_validate.results import Finding

_SIDE = 16  # pixels of the frame that is encoded
# Of float32, with room for the two roundings of (latents - mean) / std.
_FLOAT32_BOUND = 2.0**-22


def audit_latents_statistics(model: Any) -> list[Finding]:
    """Find what is wrong with the normalisation of latents; nothing to find where the branch is off."""
    import torch

    if not getattr(model, "enable_world", False):
        return []
    encoder = model.world_encoder
    findings = []
    for name in ("latents_mean", "latents_std"):
        values = torch.tensor(encoder.vae.config[name], dtype=torch.float64)
        if values.shape != (encoder.vae.config.z_dim,) or not bool(torch.isfinite(values).all()):
            findings.append(_finding(name, f"{name} is not {encoder.vae.config.z_dim} finite numbers"))
        elif name == "latents_std" and bool((values <= 0).any()):
            findings.append(_finding(name, "latents_std has a number that is not above 0"))
    if findings:
        return findings
    mean, std = (
        torch.tensor(encoder.vae.config[name], dtype=torch.float64, device=encoder.vae.device).view(1, -1, 1, 1, 1)
        for name in ("latents_mean", "latents_std")
    )
    frames = torch.linspace(-1, 1, 3 * _SIDE * _SIDE, dtype=torch.float32).view(1, 3, 1, _SIDE, _SIDE)
    frames = frames.to(device=encoder.vae.device, dtype=encoder.vae.dtype)
    with torch.no_grad():
        raw = encoder.vae.encode(frames).latent_dist.mode().double()
        actual = encoder(frames)
    expected = (raw - mean) / std
    bound = torch.finfo(actual.dtype).eps * expected.abs() + _FLOAT32_BOUND * (raw.abs() + mean.abs()) / std
    share = float(((actual.double() - expected).abs() > bound).double().mean())
    if share:
        findings.append(_finding("latents", f"{share:.0%} of the latents are not (latents - mean) / std", actual=share))
    return findings


def _finding(name: str, message: str, actual: float | None = None) -> Finding:
    return Finding(
        code="buffers.latents_statistics",
        location=f"world_encoder.vae.config.{name}",
        message=message,
        expected=0.0 if actual is not None else None,
        actual=actual,
        cause="latents_mean and latents_std of the VAE's config are wrong, cast or not applied",
        remedy="take the config of the Cosmos repository, and normalise in float32 as WorldEncoder does",
    )
