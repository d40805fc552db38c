"""The figures of two checks, held against each other: counts must be equal, memory may grow by a share.

In: two reports' measurements. Out: `Comparison`s. A figure that was a number and is none now is worse; one that was
none is counted and not compared.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeGuard

from theworld_validate.regression.changes import Comparison, find_change
from theworld_validate.regression.limits import Limits
from theworld_validate.results import CheckResult, Measurements, Row, Scalar, Status

Pair = tuple[CheckResult, CheckResult]
Figures = dict[str, Scalar]

# Tables that show and do not gate: who asked for memory, what would make it fit, and rows that have no name.
_NOT_COMPARED = {"owners", "levers", "changes"}
_WORKLOAD = ("world_tokens", "text_tokens", "batch")  # in a table they name a row
_NO_COST = ("compared_bytes", "rounding_bytes")  # what was read, and what is left over


def compare_counts(pairs: Sequence[Pair]) -> Comparison:
    """Compare whole numbers and yes or no: how many tensors were compared, how many parameters there are.

    Other figures may change; but what was a number must be one.
    """

    def judge(name: str, was: Scalar, now: Scalar) -> bool | None:
        if _is_memory(name):
            return None
        if isinstance(was, float) or name == "rounding_bytes" or name.endswith("_seconds"):
            return True if _is_number(was) and not _is_number(now) else None
        if not isinstance(was, int):
            return None
        return type(was) is not type(now) or was != now

    return _compare(
        pairs,
        "count",
        judge,
        has_none=lambda name, was: was is None and not name.endswith(("_bytes", "_seconds")),
    )


def compare_memory(pairs: Sequence[Pair], limits: Limits) -> Comparison:
    """Compare peaks of memory, and the parts that they are made of."""

    def judge(name: str, was: Scalar, now: Scalar) -> bool | None:
        if not _is_memory(name) or not _is_number(was) or was < 0:
            return None
        if not _is_number(now) or now < 0 or (was > 0 and now == 0):
            return True  # 0 bytes where there were some: it was not measured
        return now > was * (1 + limits.memory_growth)

    return _compare(
        pairs,
        "memory",
        judge,
        has_none=lambda name, was: was is None and _is_memory(name),
    )


def _is_memory(name: str) -> bool:
    return name.endswith("_bytes") and name not in _NO_COST


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _compare(
    pairs: Sequence[Pair],
    code: str,
    judge: Callable[[str, Scalar, Scalar], bool | None],
    *,
    has_none: Callable[[str, Scalar], bool],
) -> Comparison:
    """Compare the figures that `judge` is for: it says whether one is worse, or None.

    Args:
        has_none: whether a figure is one of them that the baseline has no value of.
    """
    comparison = Comparison()
    for before, after in pairs:
        if Status.SKIPPED in (before.status, after.status):
            continue
        root = None if after.status is before.status else f"regress.status@{before.id}"
        now = dict(_rows(after.measurements))
        for place, row in _rows(before.measurements):
            for name, was in row.items():
                comparison.not_compared += has_none(name, was)
                is_there = name in now.get(place, {})
                value = now[place][name] if is_there else None
                is_worse = judge(name, was, value)
                comparison.compared += is_worse is not None
                if is_worse:
                    location = " ".join(part for part in (before.id, place) if part)
                    shown = value if is_there else "missing"
                    comparison.findings.append(find_change(code, location, name, was, shown, explained_by=root))
    return comparison


def _rows(measurements: Measurements) -> Iterator[tuple[str, Figures]]:
    """Every row of figures: the check's own, and those of its tables, by what names them."""
    yield "", {name: value for name, value in measurements.items() if not isinstance(value, (list, dict))}
    for table, rows in measurements.items():
        if table in _NOT_COMPARED or not isinstance(rows, list):
            continue
        seen: Counter[str] = Counter()
        for row in rows:
            if not isinstance(row, dict):
                continue
            name = f"{table}[{', '.join(_names(row))}]"
            seen[name] += 1
            place = name if seen[name] == 1 else f"{name}#{seen[name]}"
            yield (
                place,
                {
                    column: value
                    for column, value in row.items()
                    if column not in _WORKLOAD and not isinstance(value, list) and not _is_name(column, value)
                },
            )


def _names(row: Row) -> Iterator[str]:
    from theworld.checkpoints.error_text import one_line

    for column, value in row.items():
        if _is_name(column, value) or (column in _WORKLOAD and not isinstance(value, list)):
            yield one_line(value, 120)


def _is_name(column: str, value: object) -> bool:
    """Whether a value is what its row is called, and not a figure that should be a number."""
    return isinstance(value, str) and not column.endswith(("_bytes", "_seconds"))
