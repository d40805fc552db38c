"""How safely a release loads a checkpoint: keys that are lost, weights that are others, files that a neighbour writes.

In: what was seen. Out: findings, and the cell of loading.
"""

from collections.abc import Iterator, Sequence

from theworld_validate.documents.observations import Fingerprint
from theworld_validate.releases.judged import LOADING, Cell, Verdict
from theworld_validate.releases.requests import Loading
from theworld_validate.releases.seen import Seen
from theworld_validate.results import Finding

_NAMED = 3  # keys that a sentence names


def judge_loading(seen: Seen, findings: Sequence[Finding], weights: Sequence[str]) -> Cell:
    """How a release loads the checkpoint.

    Args:
        findings: of `loading_findings` and `exchange_findings`.
        weights: parameters that hold something else than in the release before.
    """
    if seen.failure is not None:
        return Cell(probe=LOADING, verdict=Verdict.FAILED, place=seen.version, why=seen.failure)
    if (first := next((finding for finding in findings if finding.severity == "error"), None)) is not None:
        return Cell(probe=LOADING, verdict=Verdict.UNSAFE, place=first.location, why=first.message)
    if weights:
        return Cell(probe=LOADING, verdict=Verdict.CHANGED, place=weights[0])
    return Cell(probe=LOADING, verdict=Verdict.EQUAL)


def loading_findings(seen: Seen) -> Iterator[Finding]:
    """What is unsafe about how a release loads the checkpoint, or why it does not."""
    if seen.failure is not None:
        yield Finding(
            code="releases.failed",
            location=seen.version,
            message=f"{seen.version}: {seen.failure}",
            cause="this release cannot load or run the checkpoint",
            remedy="leave it out, or name a release that has this model",
        )
    if seen.loading is not None:
        yield from unsafe_findings(seen.loading, f"{seen.version} loads the checkpoint with")


def unsafe_findings(loading: Loading, opening: str) -> Iterator[Finding]:
    """A finding for each way in which loading left tensors without what the files hold."""
    silent = tuple(name for name in loading.random if name not in loading.missing)
    kinds = (
        ("missing", loading.missing, "no key of the files is read into them"),
        ("mismatched", loading.mismatched, "the files hold another shape"),
        ("random", silent, "they differ with the seed, and the library does not say so"),
    )
    for kind, names, why in kinds:
        if not names:
            continue
        unread = f", and {len(loading.unexpected)} keys unread" if loading.unexpected and kind == "missing" else ""
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        yield Finding(
            code=f"releases.{kind}",
            location=names[0],
            message=f"{opening} {len(names)} of {loading.num_keys} tensors {kind}{unread}: {shown}",
            expected=0,
            actual=len(names),
            cause=f"lost key: {why}" + ("; the release has other names for them" if unread else ""),
            remedy="use a release that reads these files, or rename the keys",
            section="parameters",
            field=kind,
        )


def exchange_findings(before: Seen, seen: Seen) -> Iterator[Finding]:
    """Whether each of two neighbours reads what the other one saves."""
    for reader, writer in ((seen, before), (before, seen)):
        exchange = reader.exchange.get(writer.version)
        if exchange is None:
            continue
        if exchange.failure is not None:
            yield Finding(
                code="releases.exchange_failed",
                location=reader.version,
                message=f"{reader.version} cannot load what {writer.version} saves: {exchange.failure}",
                cause="saving or loading: the two releases write and read other files",
                remedy=f"save for {reader.version} with a release that it reads",
                section="round_trip",
                field="exchange",
            )
        elif exchange.loading is not None:
            opening = f"what {writer.version} saves of a new model, {reader.version} loads with"
            yield from unsafe_findings(exchange.loading, opening)


def other_weights(reference: Fingerprint, candidate: Fingerprint) -> list[str]:
    """Parameters that both have, and that hold something else."""
    ours, theirs = (side.sections.get("parameters", {}) for side in (reference, candidate))
    fields = ("digest", "dtype", "shape")
    return [name for name in ours if name in theirs and any(ours[name].get(f) != theirs[name].get(f) for f in fields)]


def weights_finding(before: Seen, seen: Seen, weights: list[str]) -> Finding:
    more = f" (first of {len(weights):,})" if len(weights) > 1 else ""
    return Finding(
        code="releases.weights",
        location=weights[0],
        message=f"{seen.version} has other weights than {before.version}: {weights[0]}{more}, which no answer shows",
        cause="the release reads or converts the checkpoint's tensors otherwise",
        remedy="compare that tensor with the file's; ask a probe that reaches it",
    )
