"""A module tree in call order: a row a module, a cell a probe, numbered layers that look alike as one row.

In: for each probe its modules in call order, with how many outputs each has and how many differ. Out: rows.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Counts = tuple[int, int]  # outputs, and how many of them differ
Modules = dict[str, Counts]

_MAX_ROWS = 300
_ROWS_BEFORE = 40  # of those that are kept, before the first that differs
_NUMBERED = re.compile(r"(.*\.)(\d+)")
_PART = re.compile(r"[^.]+(?:\.\d+(?=\.|$))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCell:
    """One module on one probe: how many of its outputs differ."""

    outputs: int
    differing: int

    @property
    def percent(self) -> float:
        """The share that differs; of nothing, nothing."""
        return 100 * self.differing / self.outputs if self.outputs else 0.0

    @property
    def text(self) -> str:
        """The share in a few characters, never rounded to none or to all."""
        if not self.differing:
            return "0"
        return f"{min(max(round(self.percent), 1), 99 if self.differing < self.outputs else 100)} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRow:
    """One row.

    Args:
        depth: in the tree, from 0.
        label: the module's own name below its parent; `name` is its whole path.
        cells: one a probe, None where the probe does not call it; empty for a parent that only holds others.
        first: what exactly differs first, in the first module that differs; "" for other rows.
    """

    depth: int
    label: str
    name: str
    cells: tuple[TreeCell | None, ...]
    first: str = ""

    @property
    def differs(self) -> bool:
        """Whether anything in it differs on any probe."""
        return any(cell is not None and cell.differing for cell in self.cells)


def make_tree(columns: Sequence[Modules], *, first: str, place: str) -> tuple[list[TreeRow], int]:
    """Make the rows of a tree.

    Args:
        columns: a probe each.
        first: the first module that differs; `place` is the output of it that does.

    Returns:
        The rows, and how many more there are.
    """
    rows = list(_with_parents(_merged(_rows(columns, first, place))))
    start = max(next((i for i, row in enumerate(rows) if row.first), 0) - _ROWS_BEFORE, 0)
    start = start if len(rows) > _MAX_ROWS else 0
    shown = rows[start : start + _MAX_ROWS]
    return shown, len(rows) - len(shown)


def _rows(columns: Sequence[Modules], first: str, place: str) -> Iterator[TreeRow]:
    for name in _in_call_order(columns):
        cells = tuple(
            None if (counts := modules.get(name)) is None else TreeCell(outputs=counts[0], differing=counts[1])
            for modules in columns
        )
        what = place.removeprefix(name).lstrip(".") or place if name == first else ""
        yield TreeRow(depth=0, label=name, name=name, cells=cells, first=what)


def _in_call_order(columns: Sequence[Modules]) -> list[str]:
    """All modules: in the order of the first probe that calls most, with those of others after what they follow."""
    order = list(max(columns, key=len))
    known = set(order)
    for modules in columns:
        after: dict[str | None, list[str]] = {}
        previous = None
        for name in modules:
            if name in known:
                previous = name
            else:
                after.setdefault(previous, []).append(name)
        if after:
            order = [*after.get(None, []), *(one for name in order for one in (name, *after.get(name, [])))]
            known.update(order)
    return order


def _merged(rows: Iterator[TreeRow]) -> Iterator[TreeRow]:
    """Neighbours that are numbered layers of one parent and look alike, as one row: "layers.1 to 7"."""
    run: list[TreeRow] = []
    for row in rows:
        if run and not _continues(run[-1], row):
            yield _as_one(run)
            run = []
        run.append(row)
    if run:
        yield _as_one(run)


def _continues(one: TreeRow, other: TreeRow) -> bool:
    first, second = _NUMBERED.fullmatch(one.name), _NUMBERED.fullmatch(other.name)
    if not first or not second or one.first or other.first:
        return False
    is_next = first[1] == second[1] and len(second[2]) < 10 and int(second[2]) == int(first[2]) + 1
    return is_next and one.cells == other.cells


def _as_one(run: Sequence[TreeRow]) -> TreeRow:
    if len(run) == 1:
        return run[0]
    last = run[-1].name.rpartition(".")[2]
    return TreeRow(depth=0, label="", name=f"{run[0].name} to {last}", cells=run[0].cells)


def _with_parents(rows: Iterator[TreeRow]) -> Iterator[TreeRow]:
    """Each row below the parents that it has, which are named where the branch changes."""
    branch: tuple[str, ...] = ()
    for row in rows:
        name, to, last = row.name.partition(" to ")
        parts = tuple(_PART.findall(name)) or (name,)
        shared = 0
        while shared < len(parts) - 1 and branch[: shared + 1] == parts[: shared + 1]:
            shared += 1
        for depth in range(shared, len(parts) - 1):
            yield TreeRow(depth=depth, label=parts[depth], name=".".join(parts[: depth + 1]), cells=())
        yield TreeRow(
            depth=len(parts) - 1, label=parts[-1] + to + last, name=row.name, cells=row.cells, first=row.first
        )
        branch = parts
