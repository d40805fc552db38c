"""The lock: what passed, as a constraints file.

In: judged releases and their overlays. Out: a file for `pip install -c`: the newest release that one may go to from
the first one, with the packages that it was tested with.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from theworld_validate.documents.writing import write_file
from theworld_validate.releases.environments import Overlay
from theworld_validate.releases.judged import Judged


def passing_releases(judged: Sequence[Judged], refused: Sequence[str] = ()) -> list[str]:
    """The releases from the first one on, up to the first that does not pass.

    Args:
        refused: releases in which the candidate does not pass.
    """
    passing: list[str] = []
    for release in judged:
        if not release.verdict.passes or release.version in refused:
            break
        passing.append(release.version)
    return passing


def write_lock(path: Path, passing: Sequence[str], overlays: Mapping[str, Overlay], *, checkpoint: str) -> None:
    """Write the newest of the passing releases, and say what it was compared with.

    Raises:
        InputError: if it cannot be written.
    """
    newest = overlays[passing[-1]]
    names = ", ".join(passing)
    lines = [
        f"# theworld-validate releases: {newest.library} {names}: the same results, each as the one before it.",
        f"# Checkpoint: {checkpoint}. Python {newest.shared['python']}. The newest of them, as it was tested:",
        *(f"{name}=={number}" for name, number in sorted({**_shared(newest), **newest.packages}.items())),
    ]
    write_file(path, "\n".join(lines) + "\n", option="--lock")


def _shared(overlay: Overlay) -> dict[str, str]:
    # Less the build: +cpu and +cu130 are of one release.
    return {name: number.partition("+")[0] for name, number in overlay.shared.items() if name != "python"}
