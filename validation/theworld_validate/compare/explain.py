"""From findings to root causes: which findings are roots, and which root each of the others follows from.

In: all findings of one comparison, and the evidence beside them. Out: the same findings, in order: roots with their
cause and remedy, consequences with the key of their root. Only evidence is read; no model is near.
"""

from collections.abc import Sequence
from dataclasses import replace

from theworld_validate.compare.advice import (
    EQUAL_UP_TO_HERE,
    INPUTS_DIFFER,
    NOT_OBSERVED_THEN,
    OTHER_NAMES,
    STORED_TWICE,
    advise,
)
from theworld_validate.compare.causes import Cause, classify, field_of, section_of
from theworld_validate.compare.contradictions import contradictions
from theworld_validate.compare.nodes import Evidence, Node, make_nodes
from theworld_validate.compare.reach import reach, same_tail
from theworld_validate.documents.observations import STATE_SECTIONS
from theworld_validate.results import Finding

__all__ = ["Evidence", "contradictions", "explain", "rank_roots"]

_KINDS = {cause: position for position, cause in enumerate(Cause)}
_RUNS = ("trace", "outputs", "generation", "gradients")  # sections that a run again can differ in
_TOLD_BY_THE_FINDING = (Cause.RAISED, Cause.ENDED, Cause.LOST_KEY, Cause.EXTRA_KEY, Cause.CHECKPOINT_FILES)
_MANY = 3  # names that a sentence lists


def explain(findings: Sequence[Finding], evidence: Evidence) -> tuple[Finding, ...]:
    """Name the root of each finding, and the cause and remedy of each root.

    Args:
        findings: of one comparison, from all of its checks.

    Returns:
        The same findings in the same order. A cause opens with its kind: "lost tie: ...".
    """
    nodes = make_nodes(findings, evidence)
    spokesmen = _spokesmen(nodes)
    parents = [_parent(node, spokesmen if node.section == "files" else nodes) for node in nodes]
    roots = [_root_of(i, parents) for i in range(len(nodes))]
    explained = []
    for node in nodes:
        root = nodes[roots[node.index]]
        if root.index != node.index and root.finding.key != node.finding.key:
            explained.append(replace(node.finding, cause=None, remedy=None, explained_by=root.finding.key))
        else:
            followers = [other for other in nodes if roots[other.index] == root.index and other.index != root.index]
            explained.append(_with_cause(node, nodes, followers, evidence))
    return tuple(explained)


def rank_roots(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The roots among explained findings, the likeliest first: errors, by their kind, then by what they explain."""
    num_explained: dict[str, int] = {}
    for finding in findings:
        if finding.explained_by is not None:
            num_explained[finding.explained_by] = num_explained.get(finding.explained_by, 0) + 1

    def order(finding: Finding) -> tuple[bool, int, int]:
        return (finding.severity != "error", _KINDS[classify(finding)], -num_explained.get(finding.key, 0))

    return tuple(sorted((finding for finding in findings if finding.explained_by is None), key=order))


def _spokesmen(nodes: Sequence[Node]) -> list[Node]:
    """Of problems with files, of which there may be thousands, those that can explain the others."""
    first: dict[str, Node] = {}
    for node in nodes:
        if node.section == "files":
            first.setdefault(node.field, node)
    chosen = list(first.values())
    if (unexpected := first.get("unexpected")) is not None:
        chosen += [node for node in nodes if node.field == "missing" and same_tail(unexpected, node)][:1]
    return chosen


def _parent(node: Node, nodes: Sequence[Node]) -> int | None:
    """The node that explains this one best: the nearest; of equally near ones the more telling kind."""
    best: tuple[int, int, int] | None = None
    for root in nodes:
        distance = reach(root, node)
        if distance is not None and (best is None or (distance, _KINDS[root.cause], root.index) < best):
            best = (distance, _KINDS[root.cause], root.index)
    return None if best is None else best[2]


def _root_of(index: int, parents: Sequence[int | None]) -> int:
    """Follow explanations to their end. Where some explain each other in a ring, the first of the ring is the root."""
    path = [index]
    while (parent := parents[path[-1]]) is not None:
        if parent in path:
            return min(path[path.index(parent) :])
        path.append(parent)
    return path[-1]


def _with_cause(node: Node, nodes: Sequence[Node], followers: Sequence[Node], evidence: Evidence) -> Finding:
    finding = node.finding
    cause = node.cause
    if evidence.candidate_repeats is False and node.section in _RUNS and node.field != "raised":
        cause = Cause.NON_DETERMINISM
    why, remedy = advise(cause)
    if finding.cause is not None and cause in _TOLD_BY_THE_FINDING:
        why = finding.cause.removeprefix(f"{cause}: ")  # who made the finding knows more of it
        remedy = finding.remedy or remedy
    if cause is Cause.KERNEL_CHOICE and node.section == "trace":
        why = _why_here(node, nodes, evidence) or why
    if cause is Cause.WRITTEN_KEYS and any(other.field == "tied_to" for other in followers):
        why, remedy = STORED_TWICE
    elif cause is Cause.WRITTEN_KEYS and finding.severity == "warning":
        why, remedy = OTHER_NAMES
    if cause is Cause.BUFFER_DTYPE and node.place.is_rotary:
        why = f"{why}; rotary frequencies in {finding.actual} shift every position's angle"
    if cause in (Cause.GLOBAL_FLAG, Cause.GLOBAL_HOOK) and node.field in ("missing", "extra"):
        why, remedy = NOT_OBSERVED_THEN
    gone = [other.finding.location for other in followers if (other.section, other.field) == ("modules", "missing")]
    if cause is Cause.MODULE_CLASS and gone:
        more = f" and {len(gone) - _MANY} more" if len(gone) > _MANY else ""
        why = f"{why}: {', '.join(gone[:_MANY])}{more} {'is' if len(gone) == 1 else 'are'} gone"
    return replace(finding, cause=f"{cause}: {why}", remedy=remedy, explained_by=None)


def _why_here(node: Node, nodes: Sequence[Node], evidence: Evidence) -> str | None:
    """What is known of the first place that differs; no more is said."""
    inputs_equal = evidence.inputs_equal.get(node.finding.location)
    if inputs_equal is False:
        return INPUTS_DIFFER
    state_is_equal = evidence.compared.issuperset(STATE_SECTIONS) and not any(
        section_of(other.finding) in STATE_SECTIONS or field_of(other.finding) == "raised" for other in nodes
    )
    return EQUAL_UP_TO_HERE if inputs_equal and state_is_equal else None
