"""What the fork server also imports where several workers will build a world branch: diffusers' VAE, a second each."""

import contextlib
import gc

with contextlib.suppress(ImportError):  # said by whoever builds the branch
    import diffusers.models.autoencoders.autoencoder_kl_wan  # noqa: F401

gc.collect()
gc.freeze()
