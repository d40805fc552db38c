"""How safely a release loads a checkpoint: keys that are lost, weights that are others, files that a neighbour writes.

In: what was seen. Out: findings, and the cell of loading.
"""

from collections.abc import Collection, Iterator, Sequence

from theworld_validate.compare.causes import Cause
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.releases.judged import LOADING, Cell, Verdict
from theworld_validate.releases.requests import Loading
from theworld_validate.releases.seen import Seen
from theworld_validate.results import Finding

_NAMED = 3  # keys that a sentence names
_WORDS = {
    "untied": "random, no longer tied",
    "drawn_anew": "drawn anew after they were read",
    "unset": "(buffers) left as the memory was",
}
_REMEDIES = {
    "untied": "tie them in the model's class, or save both tensors",
    "drawn_anew": "initialise with torch.nn.init or transformers.initialization, which leave loaded weights alone",
    "unset": "set the buffer in the class's _init_weights, or make it persistent",
}


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


def tied_in(seen: Seen) -> set[str]:
    """Parameters that share the memory of others."""
    parameters = seen.file.fingerprint.sections.get("parameters", {}) if seen.file is not None else {}
    return {name for name, own in parameters.items() if own.get("tied_to") is not None}


def loading_findings(seen: Seen, ties: Collection[str] = ()) -> Iterator[Finding]:
    """What is unsafe about how a release loads the checkpoint, or why it does not; `ties` as for `unsafe_findings`."""
    if seen.failure is not None:
        yield Finding(
            code="releases.failed",
            location=seen.version,
            message=f"{seen.version}: {seen.failure}",
            cause="this release cannot load or run the checkpoint",
            remedy="leave it out, or name a release that has this model",
        )
    if seen.loading is not None:
        yield from unsafe_findings(seen.loading, f"{seen.version} loads the checkpoint with", ties=ties)


def unsafe_findings(loading: Loading, opening: str, *, ties: Collection[str] = ()) -> Iterator[Finding]:
    """A finding for each way in which loading left tensors without what the files hold.

    Args:
        ties: tensors that share the memory of others in another release.
    """
    untied = tuple(sorted({*loading.missing, *loading.random}.intersection(ties)))
    missing = tuple(name for name in loading.missing if name not in ties)
    known = {*loading.missing, *loading.drawn_anew, *loading.unset_buffers, *untied}
    silent = tuple(name for name in loading.random if name not in known)
    kinds = (
        ("untied", untied, Cause.LOST_TIE, "another release has them share memory with what the files hold"),
        ("missing", missing, Cause.LOST_KEY, "no key of the files is read into them"),
        ("mismatched", loading.mismatched, Cause.LOST_KEY, "the files hold another shape"),
        ("random", silent, Cause.LOST_KEY, "they differ with the seed, and the library does not say so"),
        ("drawn_anew", loading.drawn_anew, Cause.REINITIALISED, "the files hold them, and they differ with the seed"),
        ("unset", loading.unset_buffers, Cause.BUFFER_VALUE, "no file holds them, and nothing set them after loading"),
    )
    for kind, names, cause, why in kinds:
        if not names:
            continue
        unread = f", and {len(loading.unexpected)} keys unread" if loading.unexpected and kind == "missing" else ""
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        yield Finding(
            code=f"releases.{kind}",
            location=names[0],
            message=f"{opening} {len(names)} of {loading.num_keys} tensors {_WORDS.get(kind, kind)}{unread}: {shown}",
            expected=0,
            actual=len(names),
            cause=f"{cause}: {why}" + ("; the release has other names for them" if unread else ""),
            remedy=_REMEDIES.get(kind, "use a release that reads these files, or rename the keys"),
            section="buffers" if kind == "unset" else "parameters",
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
