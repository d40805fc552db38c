"""Files between releases: each release saves a freshly built model, and every other one loads it.

In: a request. Out: a saved folder; or, of another release's folder, what became of its keys. A model that came from a
checkpoint is saved under that checkpoint's names; a fresh one shows what names a release itself gives.
"""

from pathlib import Path
from typing import Any

from theworld_validate.fingerprint.failures import describe_error
from theworld_validate.releases.loading import load_with
from theworld_validate.releases.requests import Exchange, Request
from theworld_validate.subjects.targets import resolve_target


def save_fresh(request: Request) -> str | None:
    """Build a model of the target's class with random weights, and save it; or say why that fails."""
    import torch

    assert request.fresh is not None
    try:
        target: Any = resolve_target(request.target)
        config = target.config_class.from_pretrained(request.config)
        torch.manual_seed(request.seed)
        target(config).to(getattr(torch, request.dtype)).save_pretrained(request.fresh)
    except Exception as error:  # whatever a release says of the config, or of saving
        return describe_error(error)
    return None


def load_saved(request: Request, folder: str) -> Exchange:
    """Load what a release saved."""
    if not Path(folder, "config.json").is_file():
        return Exchange(failure="it saved nothing")
    try:
        return Exchange(loading=load_with(resolve_target(request.target), folder, request).facts)
    except Exception as error:  # whatever a release says of another one's files
        return Exchange(failure=describe_error(error))
