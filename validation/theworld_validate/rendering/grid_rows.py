"""The rows of a check that are a grid: releases down, loading and probes across, a verdict in each square.

In: a check. Out: a `Grid`; None where a check's measurements hold no such rows. Out of a report: how grave what each
release's check says is, so that forms name the gravest cause first.
"""

from dataclasses import dataclass

from theworld_validate.rendering.plain_text import line
from theworld_validate.results import CheckResult, Report, Row

FIRST = "first"  # of the oldest release, which is compared with none
VERDICTS = (FIRST, "equal", "equivalent", "undecidable", "changed", "unsafe", "failed")  # from best to worst
MEANINGS = {
    FIRST: "compared with none",
    "equal": "bit for bit",
    "equivalent": "rounded otherwise",
    "undecidable": "evidence is missing",
    "changed": "other numbers, or code that fails",
    "unsafe": "weights are lost",
    "failed": "it does not load, or does not run",
}
# What a reader must know first: a release that fails says so itself, and one that loses weights does not.
GRAVEST_FIRST = ("unsafe", "failed", "changed", "undecidable", "equivalent", "equal", FIRST)
UNRANKED = GRAVEST_FIRST.index("changed")  # of checks that are no release's
_MAX_PROBES = 40
_FIRST = ("release", "verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is drawn.

    Args:
        releases: a row each, and `verdicts` the worst of each.
        probes: a column each; the first is loading.
        cells: a row's verdicts; None where a probe was not judged.
        checks: the id of each release's check.
    """

    releases: tuple[str, ...]
    verdicts: tuple[str, ...]
    probes: tuple[str, ...]
    cells: tuple[tuple[str | None, ...], ...]
    checks: tuple[str, ...] = ()


def release_check_id(release: str) -> str:
    """The id of a release's check."""
    return f"releases.{''.join(c if c.isalnum() or c in '._-' else '-' for c in release)}"


def releases_of_checks(report: Report) -> dict[str, str]:
    """The check of each release, and its name; empty where none are compared."""
    grids = [grid for check in report.checks if (grid := grid_of(check)) is not None]
    return {check: name for grid in grids for check, name in zip(grid.checks, grid.releases, strict=True)}


def gravity_of_checks(report: Report) -> dict[str, int]:
    """The check of each release, and the place of its verdict in `GRAVEST_FIRST`; empty where none are compared."""
    grids = [grid for check in report.checks if (grid := grid_of(check)) is not None]
    return {
        check: GRAVEST_FIRST.index(verdict)
        for grid in grids
        for check, verdict in zip(grid.checks, grid.verdicts, strict=True)
        if verdict in GRAVEST_FIRST
    }


def grid_of(check: CheckResult) -> Grid | None:
    """Read a check's rows "grid"; columns whose values are all verdicts are its probes."""
    value = check.measurements.get("grid")
    if not isinstance(value, list):
        return None
    rows = [row for row in value if isinstance(row, dict) and all(isinstance(row.get(name), str) for name in _FIRST)]
    names = dict.fromkeys(name for row in rows for name in row if name not in _FIRST)
    probes = [
        name
        for name in names
        if all(row.get(name) in (*VERDICTS, None) for row in rows) and any(row.get(name) for row in rows)
    ][:_MAX_PROBES]
    if not probes:
        return None
    return Grid(
        releases=tuple(line(str(row["release"]), 40) for row in rows),
        verdicts=tuple(_word(row, "verdict", is_first=row is rows[0]) or "" for row in rows),
        probes=tuple(probes),
        cells=tuple(tuple(_word(row, name, is_first=row is rows[0]) for name in probes) for row in rows),
        checks=tuple(release_check_id(str(row["release"])) for row in rows),
    )


def _word(row: Row, name: str, *, is_first: bool) -> str | None:
    """A verdict; reports of earlier versions call the first release equal, though it was compared with none."""
    word = line(value, 20) if isinstance(value := row.get(name), str) else None
    return FIRST if is_first and word == "equal" else word
