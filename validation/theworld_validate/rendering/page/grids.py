"""Grids of verdicts: releases against probes, and whose files each release reads; a word and a colour a square.

In: a report's checks. Out: grids as the template lays them out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from theworld_validate.rendering.grid_rows import Grid, grid_of
from theworld_validate.rendering.plain_text import line
from theworld_validate.rendering.tables import title_of
from theworld_validate.results import CheckResult, Report

FILES = "files"  # a measurement of which nothing is left to tell beside its grid
_MAX_ROWS = 200
_MAX_COLUMNS = 40
_STYLES = {
    "equal": "good",
    "whole": "good",
    "itself": "good",
    "equivalent": "near",
    "undecidable": "open",
    "changed": "bad",
    "unsafe": "worst",
    "failed": "worst",
}
_SAVED_BY, _READ_BY = "saved_by", "read_by_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One square: its word, and its style; both empty where nothing was judged."""

    text: str
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """A row: its name, the worst of it where that is known, and its squares."""

    name: str
    verdict: Square | None
    squares: list[Square]

    @property
    def num_judged(self) -> int:
        """Squares in which something was judged."""
        return sum(bool(square.style) for square in self.squares)

    @property
    def num_good(self) -> int:
        """Those among them in which nothing differs and nothing is lost."""
        return sum(square.style == "good" for square in self.squares)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageGrid:
    """One grid: what its rows and its squares say, and how many rows are left out."""

    check: str
    title: str
    caption: str
    corner: str
    good_word: str
    columns: list[str]
    rows: list[GridRow]
    num_left_out: int


def grids_of(report: Report) -> list[PageGrid]:
    """All grids of a report: those of verdicts first."""
    grids = [grid for check in report.checks for grid in _grids(check)]
    return sorted(grids, key=lambda grid: grid.rows[0].verdict is None)


def _grids(check: CheckResult) -> Iterator[PageGrid]:
    if (grid := grid_of(check)) is not None:
        yield _releases(check, grid)
    if (files := _files(check)) is not None:
        yield files


def _releases(check: CheckResult, grid: Grid) -> PageGrid:
    rows = [
        GridRow(name=name, verdict=_square(verdict), squares=[_square(word) for word in words])
        for name, verdict, words in zip(grid.releases, grid.verdicts, grid.cells, strict=True)
    ]
    return PageGrid(
        check=line(check.id),
        title="Each release against the one before it",
        caption="equal: bit for bit; equivalent: rounded otherwise; changed: other numbers, or code that fails; "
        "unsafe: weights are lost",
        corner="release",
        good_word="equal",
        columns=[title_of(name) for name in grid.probes],
        rows=rows[:_MAX_ROWS],
        num_left_out=max(len(rows) - _MAX_ROWS, 0),
    )


def _files(check: CheckResult) -> PageGrid | None:
    """Who reads whose files; None where a check has no such rows."""
    value = check.measurements.get(FILES)
    rows = [row for row in value if isinstance(row, dict) and _SAVED_BY in row] if isinstance(value, list) else []
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name.startswith(_READ_BY)]
    if not names:
        return None
    names = names[:_MAX_COLUMNS]
    made = [
        GridRow(
            name=line(row[_SAVED_BY], 40),
            verdict=None,
            squares=[_square(None if (word := row.get(name)) is None else line(word, 40)) for name in names],
        )
        for row in rows[:_MAX_ROWS]
    ]
    return PageGrid(
        check=line(check.id),
        title="Who reads whose files",
        caption="whole: every weight is read; lost: so many of the model's tensors are in no key that is read",
        corner="saved by",
        good_word="whole",
        columns=[line(name.removeprefix(_READ_BY), 40) for name in names],
        rows=made,
        num_left_out=len(rows) - len(made),
    )


def _square(word: str | None) -> Square:
    if word is None:
        return Square(text="", style="")
    return Square(text=word, style=_STYLES.get(word, "worst" if word.endswith(" lost") else "open"))
