"""Findings as the forms show them: root causes first, what follows from each beneath it, what many share said once.

In: a report. Out: its findings, as roots and in groups of roots that share cause and remedy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from theworld_validate.rendering.claims_rows import REFUTED
from theworld_validate.rendering.grid_rows import UNRANKED, gravity_of_checks
from theworld_validate.results import Finding, Report, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finding, and the check that found it."""

    finding: Finding
    check: str
    status: Status

    @property
    def is_error(self) -> bool:
        """Whether it fails its check."""
        return self.finding.severity == "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A finding that no other explains, and all that follow from it, directly or not, in the report's order."""

    found: Found
    follows: tuple[Found, ...] = ()

    @property
    def is_error(self) -> bool:
        """Whether it, or something that follows from it, fails a check."""
        return self.found.is_error or any(found.is_error for found in self.follows)


def find_roots(report: Report) -> list[Root]:
    """All findings under their roots: errors before warnings, of releases the gravest, otherwise in the report's order.

    A finding whose `explained_by` names none of the report is a root, and so is the first of a circle.
    """
    found = [
        Found(finding=finding, check=check.id, status=check.status)
        for check in report.checks
        for finding in check.findings
    ]
    root_of = _trace_back(found)
    follows: dict[int, list[Found]] = {index: [] for index, root in enumerate(root_of) if root == index}
    for index, root in enumerate(root_of):
        if root != index:
            follows[root].append(found[index])
    roots = [Root(found=found[index], follows=tuple(those)) for index, those in follows.items()]
    gravity = gravity_of_checks(report)
    return sorted(roots, key=lambda root: (not root.is_error, gravity.get(root.found.check, UNRANKED)))


def is_about_a_claim(root: Root) -> bool:
    """Whether a root warns that the notes are wrong, as recorded: that is no warning of the model."""
    return root.found.finding.code == REFUTED and not root.is_error


def follows_from(roots: Sequence[Root]) -> dict[str, str]:
    """Checks whose every error follows from one of another check, and the first such other check."""
    own = {root.found.check for root in roots if root.found.is_error}
    explained: dict[str, str] = {}
    for root in roots:
        for found in root.follows:
            if found.is_error and found.check not in own:
                explained.setdefault(found.check, root.found.check)
    return explained


def _trace_back(found: Sequence[Found]) -> list[int]:
    """For each finding, the index of its root."""
    # By check and key, and by key alone: releases change at the same place, each for a reason of its own.
    named: dict[tuple[str | None, str], int] = {}
    for index, one in enumerate(found):
        for check in (one.check, None):
            at = named.setdefault((check, one.finding.key), index)
            if one.finding.explained_by is None and found[at].finding.explained_by is not None:
                named[check, one.finding.key] = index  # of several with one key, the one that explains itself
    root_of: dict[int, int] = {}
    for start in range(len(found)):
        path: dict[int, None] = {}
        at = start
        while at not in root_of and at not in path:
            path[at] = None
            at = _explained_at(at, found, named)
        root = root_of[at] if at in root_of else min(list(path)[list(path).index(at) :])
        root_of.update(dict.fromkeys(path, root))
    return [root_of[index] for index in range(len(found))]


def _explained_at(at: int, found: Sequence[Found], named: Mapping[tuple[str | None, str], int]) -> int:
    """The index of what explains a finding: of its own check, or else of any; its own where nothing does."""
    key = found[at].finding.explained_by
    if key is None:
        return at
    near = named.get((found[at].check, key), at)
    return near if near != at else named.get((None, key), at)


def group_roots(roots: Sequence[Root]) -> list[list[Root]]:
    """Roots in groups: neighbours of one check that share code, severity, cause and remedy.

    A root with neither cause nor remedy has a group of its own.
    """
    groups: list[list[Root]] = []
    for root in roots:
        says_why = root.found.finding.cause or root.found.finding.remedy
        if groups and says_why and _shared(groups[-1][-1]) == _shared(root):
            groups[-1].append(root)
        else:
            groups.append([root])
    return groups


def _shared(root: Root) -> tuple[str | None, ...]:
    finding = root.found.finding
    return root.found.check, finding.code, finding.severity, finding.cause, finding.remedy
