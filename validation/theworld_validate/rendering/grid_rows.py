"""The rows of a check that are a grid: releases down, loading and probes across, a verdict in each square.

In: a check. Out: a `Grid`; None where a check's measurements hold no such rows.
"""

from dataclasses import dataclass

from theworld_validate.rendering.plain_text import line
from theworld_validate.results import CheckResult

VERDICTS = ("equal", "equivalent", "undecidable", "changed", "unsafe", "failed")  # from best to worst
_MAX_PROBES = 40
_FIRST = ("release", "verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is drawn.

    Args:
        releases: a row each, and `verdicts` the worst of each.
        probes: a column each; the first is loading.
        cells: a row's verdicts; None where a probe was not judged.
    """

    releases: tuple[str, ...]
    verdicts: tuple[str, ...]
    probes: tuple[str, ...]
    cells: tuple[tuple[str | None, ...], ...]


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
    cells = tuple(tuple(v if isinstance(v := row.get(name), str) else None for name in probes) for row in rows)
    return Grid(
        releases=tuple(line(str(row["release"]), 40) for row in rows),
        verdicts=tuple(line(str(row["verdict"]), 20) for row in rows),
        probes=tuple(probes),
        cells=cells,
    )
