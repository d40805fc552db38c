"""Figures of a report, as SVG: the same report gives the same bytes.

In: a report's checks. Out: file name -> SVG text; nothing where no check has something to draw.
"""

import io
from typing import Any

from validation.rendering.tables import title_of

# Colour-blind safe (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#999999")
_GB = 1e9
_SETTINGS = {"svg.hashsalt": "theworld", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}


def draw_figures(report: dict[str, Any]) -> dict[str, str]:
    """Draw the bars and timelines of memory checks."""
    figures = {}
    for check in report["checks"]:
        measurements = check["measurements"]
        if measurements.get("splits"):
            figures[f"{check['id']}.split.svg"] = _draw_split(measurements["splits"])
        if measurements.get("timelines"):
            figures[f"{check['id']}.timeline.svg"] = _draw_timelines(measurements["timelines"])
    return figures


def _draw_split(rows: list[dict[str, Any]]) -> str:
    """Stacked bars: who owns the bytes at the peak, a bar a configuration."""
    figure, axes = _new_figure(height=1.4 + 0.3 * len(rows))
    labels = _labels(rows)
    left = [0.0] * len(rows)
    kinds = [column for column in rows[0] if column.endswith("_bytes")]
    for kind, colour in zip(kinds, _COLOURS, strict=False):
        widths = [row[kind] / _GB for row in rows]
        axes.barh(labels, widths, left=left, color=colour, label=title_of(kind), height=0.7)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for position, total in enumerate(left):
        axes.text(total, position, f" {total:.1f}", va="center")
    axes.invert_yaxis()
    axes.set_xlabel("GB allocated at the peak of a training step")
    axes.set_title(_workload(rows), fontsize="small")
    axes.set_xlim(0, max(left) * 1.12)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return _to_svg(figure)


def _draw_timelines(rows: list[dict[str, Any]]) -> str:
    """Allocated memory over one step, a line a configuration."""
    figure, axes = _new_figure(height=4.0)
    for row, label, colour in zip(rows, _labels(rows), _COLOURS * len(rows), strict=False):
        points = [value / _GB for value in row["bytes"]]
        axes.plot([i / max(len(points) - 1, 1) for i in range(len(points))], points, color=colour, label=label)
    axes.set_xlabel("one training step, by its requests to the allocator")
    axes.set_ylabel("GB allocated")
    axes.set_ylim(bottom=0)
    axes.set_title(_workload(rows), fontsize="small")
    figure.legend(loc="outside lower center", ncols=1 if len(rows) < 6 else 2, frameon=False, fontsize="x-small")
    return _to_svg(figure)


_WORKLOAD = ("batch", "text_tokens", "world_tokens")


def _workload(rows: list[dict[str, Any]]) -> str:
    """What all rows have in common."""
    common = [name for name in _WORKLOAD if len({row[name] for row in rows}) == 1]
    return ", ".join(f"{title_of(name)} {rows[0][name]:,}" for name in common)


def _labels(rows: list[dict[str, Any]]) -> list[str]:
    """Each row's configuration, with what of its workload is not common to all."""
    own = [name for name in _WORKLOAD if len({row[name] for row in rows}) > 1]
    return [", ".join([row["configuration"], *(f"{title_of(name)} {row[name]:,}" for name in own)]) for row in rows]


def _new_figure(*, height: float) -> Any:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(8.0, height), layout="constrained")
        return figure, figure.add_subplot()


def _to_svg(figure: Any) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
