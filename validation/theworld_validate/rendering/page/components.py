"""Parameters by component and by preset, as bars: all of it, and how much of it trains.

In: a report's checks. Out: bars as shares of the longest, for the template.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from theworld_validate.rendering.plain_text import line
from theworld_validate.rendering.tables import title_of
from theworld_validate.results import CheckResult, Report, Row

_GROUP = "params."
_NAMES = {"components": "component", "presets": "preset"}
_MAX_BARS = 100
_LARGEST = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentBar:
    """One component or preset.

    Args:
        trains, frozen: shares of the longest bar, in percent.
        share: of all parameters, or of the preset's; in words.
    """

    name: str
    total: str
    trains: float
    frozen: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentBars:
    """The bars of one check."""

    check: str
    title: str
    bars: list[ComponentBar]


def components_of(report: Report) -> list[ComponentBars]:
    """All such bars of a report."""
    return [made for check in report.checks if check.id.startswith(_GROUP) for made in _bars_of(check)]


def _bars_of(check: CheckResult) -> Iterator[ComponentBars]:
    for table, key in _NAMES.items():
        value = check.measurements.get(table)
        rows = [row for row in value if isinstance(row, dict) and _is_counted(row)] if isinstance(value, list) else []
        if bars := _bars(rows[:_MAX_BARS], key):
            yield ComponentBars(check=line(check.id), title=f"by {title_of(key)}", bars=bars)


def _is_counted(row: Row) -> bool:
    total, trainable = _total_of(row), _count(row.get("trainable"))
    return total is not None and trainable is not None and 0 <= trainable <= total < _LARGEST


def _total_of(row: Row) -> int | None:
    return _count(row.get("total"))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bars(rows: list[Row], key: str) -> list[ComponentBar]:
    longest = max((_total_of(row) or 0 for row in rows), default=0)
    bars = []
    for row in rows if longest else []:
        total, trainable = _total_of(row) or 0, _count(row.get("trainable")) or 0
        share = 100 * trainable / total if total else 0.0
        bars.append(
            ComponentBar(
                name=line(row.get(key), 80),
                total=f"{total:,}",
                trains=100 * trainable / longest,
                frozen=100 * (total - trainable) / longest,
                text=f"{trainable:,} train ({share:.2f} %)" if trainable else "frozen",
            )
        )
    return bars
