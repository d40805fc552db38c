"""What was seen of a release.

In: nothing. Out: `Seen`, and the `Truth` that it is judged by.
"""

from dataclasses import dataclass

from theworld_validate.documents.fingerprint import FingerprintFile
from theworld_validate.documents.observations import Fingerprint
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
        processor_seconds: what it took of processors; None where that is not known.
    """

    version: str
    file: FingerprintFile | None = None
    loading: Loading | None = None
    exchange: dict[str, Exchange]
    unsaved: str | None = None
    failure: str | None = None
    seconds: float = 0.0
    processor_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a release gives in a wider dtype, for the same checkpoint and probes.

    Args:
        fingerprint: with sketches; None where there is none.
        why_not: why there is none.
    """

    fingerprint: Fingerprint | None = None
    why_not: str = "no truth was made: the older release in a wider dtype"
    seconds: float = 0.0
    processor_seconds: float = 0.0
