"""Figures of a report, as SVG: the same report gives the same bytes.

In: a report's checks. Out: file name -> SVG text; nothing where no check has something to draw.
"""

import io
import textwrap
from typing import Any

from theworld_validate.rendering.tables import title_of

# Colour-blind safe (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#999999")
_GB = 1e9
_PANELS_A_ROW = 4
_POINTS_A_PANEL = 120
_SETTINGS = {
    "svg.hashsalt": "theworld",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_figures(report: dict[str, Any]) -> dict[str, str]:
    """Draw the bars and timelines of memory checks."""
    figures = {}
    for check in report["checks"]:
        measurements = check["measurements"]
        if measurements.get("splits"):
            figures[f"{check['id']}.split.svg"] = _draw_split(measurements["splits"])
        if measurements.get("timelines"):
            figures[f"{check['id']}.timeline.svg"] = _draw_timelines(measurements["timelines"])
        if measurements.get("curves"):
            figures[f"{check['id']}.sweep.svg"] = _draw_sweep(measurements["curves"], measurements["capacity_bytes"])
    return figures


def _draw_sweep(curves: list[dict[str, Any]], capacity_bytes: int | None) -> str:
    """Peaks over growing sizes, a colour a configuration; the GPU's memory as a line across."""
    figure, (axes,) = _new_figure(height=4.0)
    for curve, colour in zip(curves, _COLOURS * len(curves), strict=False):
        for peak, style in (("peak_reserved_bytes", "-"), ("peak_allocated_bytes", ":")):
            points = [value / _GB for value in curve[peak]]
            name = f"{curve['configuration']}, {title_of(peak).removeprefix('peak ')}"
            axes.plot(curve["sizes"], points, style, color=colour, marker=".", label=name)
    if capacity_bytes is not None:
        axes.axhline(capacity_bytes / _GB, color="black", lw=1, ls="--", label="what can be had")
    axes.set(xlabel=title_of(curves[0]["over"]), ylabel="GB at the peak of a training step")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="x-small")
    return _to_svg(figure)


def _draw_split(rows: list[dict[str, Any]]) -> str:
    """Stacked bars: who owns the bytes at the peak, a bar a configuration."""
    figure, (axes,) = _new_figure(height=1.4 + 0.3 * len(rows))
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
    """Allocated memory over one step: a small panel a configuration, all with the same axes."""
    num_columns = min(len(rows), _PANELS_A_ROW)
    num_rows = -(-len(rows) // num_columns)
    highest = max(max(row["bytes"]) for row in rows) / _GB
    figure, panels = _new_figure(height=0.6 + 1.5 * num_rows, panels=(num_rows, num_columns))
    for panel, row, label in zip(panels, rows, _labels(rows), strict=False):
        every = max(len(row["bytes"]) // _POINTS_A_PANEL, 1)
        points = [max(row["bytes"][i : i + every]) / _GB for i in range(0, len(row["bytes"]), every)]
        panel.fill_between([i / max(len(points) - 1, 1) for i in range(len(points))], points, color=_COLOURS[5], lw=0)
        panel.set_title("\n".join(textwrap.wrap(label, 30)), fontsize=6, loc="left")
        panel.text(1, max(points), f"{max(points):.1f}", ha="right", va="bottom", fontsize=6)
        panel.set(xlim=(0, 1), ylim=(0, highest * 1.15), xticks=[])
        panel.tick_params(labelsize=6)
    for panel in panels[len(rows) :]:
        panel.remove()
    figure.supxlabel("one training step, by its requests to the allocator", fontsize=8)
    figure.supylabel("GB allocated", fontsize=8)
    figure.suptitle(_workload(rows), fontsize="small")
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


def _new_figure(*, height: float, panels: tuple[int, int] = (1, 1)) -> Any:
    """A figure, and its axes in reading order."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(8.0, height), layout="constrained")
        return figure, list(figure.subplots(*panels, squeeze=False).flat)


def _to_svg(figure: Any) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
