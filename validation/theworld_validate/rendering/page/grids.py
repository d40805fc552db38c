"""Grids of verdicts: releases against probes, and whose files each release reads; a word and a colour a square.

In: a report's checks. Out: grids as the template lays them out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from theworld_validate.rendering.grid_rows import FIRST, MEANINGS, VERDICTS, Grid, grid_of
from theworld_validate.rendering.plain_text import line
from theworld_validate.rendering.tables import title_of
from theworld_validate.results import CheckResult, Report, Row

FILES = "files"  # a measurement of which nothing is left to tell beside its grid
_MAX_ROWS = 200
_MAX_COLUMNS = 40
_SAVED_BY, _READ_BY = "saved_by", "read_by_"
_ITSELF = "itself"  # what a release says of its own files, which it does not read as another's
_STYLES = {
    FIRST: "first",
    "equal": "good",
    "whole": "good",
    _ITSELF: "good",
    "equivalent": "near",
    "undecidable": "open",
    "changed": "bad",
    "unsafe": "worst",
    "failed": "worst",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One square: its word, and its style; both empty where nothing was judged."""

    text: str
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRow:
    """A row: its name, the worst of it where that is known, and its squares.

    Args:
        summary: how many of its squares are good, for a screen that shows the others alone.
    """

    name: str
    verdict: Square | None
    squares: list[Square]
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageGrid:
    """One grid: what its rows and its squares say, and how many rows are left out.

    Args:
        corner: what a row's name is, and `across` what a column's is; empty where columns say it themselves.
    """

    check: str
    title: str
    caption: str
    corner: str
    across: str
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
        _row(name, _square(verdict), [_square(word) for word in words], good_word="equal")
        for name, verdict, words in zip(grid.releases, grid.verdicts, grid.cells, strict=True)
    ]
    seen = {word for words in grid.cells for word in words}
    return PageGrid(
        check=line(check.id),
        title="Each release against the one before it",
        caption="; ".join(f"{verdict}: {MEANINGS[verdict]}" for verdict in VERDICTS if verdict in seen),
        corner="release",
        across="",
        columns=[title_of(name) for name in grid.probes],
        rows=rows[:_MAX_ROWS],
        num_left_out=max(len(rows) - _MAX_ROWS, 0),
    )


def count_reads(check: CheckResult) -> int:
    """How often a release reads the files of another, whole or not."""
    return sum(
        word not in (None, _ITSELF)
        for row in _file_rows(check)
        for name, word in row.items()
        if name.startswith(_READ_BY)
    )


def _file_rows(check: CheckResult) -> list[Row]:
    value = check.measurements.get(FILES)
    return [row for row in value if isinstance(row, dict) and _SAVED_BY in row] if isinstance(value, list) else []


def _files(check: CheckResult) -> PageGrid | None:
    """Who reads whose files; None where a check has no such rows."""
    rows = _file_rows(check)
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name.startswith(_READ_BY)]
    if not names:
        return None
    names = names[:_MAX_COLUMNS]
    made = [
        _row(
            line(row[_SAVED_BY], 40),
            None,
            [_square(None if (word := row.get(name)) is None else line(word, 40)) for name in names],
            good_word="whole",
        )
        for row in rows[:_MAX_ROWS]
    ]
    return PageGrid(
        check=line(check.id),
        title="Who reads whose files",
        caption="whole: every weight is read; lost: so many of the model's tensors are in no key that is read",
        corner="saved by",
        across="read by",
        columns=[line(name.removeprefix(_READ_BY), 40) for name in names],
        rows=made,
        num_left_out=len(rows) - len(made),
    )


def _row(name: str, verdict: Square | None, squares: list[Square], *, good_word: str) -> GridRow:
    judged = [square for square in squares if square.style not in ("", "first") and square.text != _ITSELF]
    num_good = sum(square.style == "good" for square in judged)
    summary = f"{num_good} of {len(judged)} {good_word}" if judged else "compared with none"
    return GridRow(name=name, verdict=verdict, squares=squares, summary=summary)


def _square(word: str | None) -> Square:
    if word is None:
        return Square(text="", style="")
    return Square(text=word, style=_STYLES.get(word, "worst" if word.endswith(" lost") else "open"))
