"""What was seen of a release.

In: nothing. Out: `Seen`.
"""

from dataclasses import dataclass

from theworld_validate.documents.fingerprint import FingerprintFile
from theworld_validate.releases.requests import Exchange, Loading


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a release made of the checkpoint.

    Args:
        version: of the library.
        file: the fingerprint; None where it failed.
        loading: what became of the checkpoint's keys.
        exchange: another release -> what became of the files that it saved.
        unsaved: why a fresh model could not be saved; None where it was.
        failure: why there is no fingerprint.
        seconds: what observing took.
    """

    version: str
    file: FingerprintFile | None = None
    loading: Loading | None = None
    exchange: dict[str, Exchange]
    unsaved: str | None = None
    failure: str | None = None
    seconds: float = 0.0
