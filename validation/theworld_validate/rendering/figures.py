"""Figures of a report, as SVG: the same report gives the same bytes.

In: a report's checks. Out: file names, and what draws each; nothing where no check has something to draw.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from theworld_validate.rendering.grid_figure import draw_grid
from theworld_validate.rendering.grid_rows import grid_of
from theworld_validate.rendering.memory_rows import (
    Bar,
    Course,
    Curve,
    RunCourse,
    colours_of,
    drawable_of,
    preset_of,
)
from theworld_validate.rendering.names import stem_of
from theworld_validate.rendering.svg import COLOURS, in_lines, legible, new_figure, to_svg
from theworld_validate.rendering.tables import format_bytes, title_of
from theworld_validate.results import Report

_GB = 1e9
_PANELS_A_ROW = 4
_POINTS_A_PANEL = 120
_LIMIT = "the limit of the GPU"
_EDGE = 0.3  # of a panel: a label begins or ends at what lies nearer to an edge
_FAR = 4  # times what is drawn: a limit beyond it would flatten everything
_MAX_DRAWN = 200  # bars, panels or curves of one figure
FIGURE_KINDS = ("split", "timeline", "sweep", "run", "grid")


def figure_name(check_id: str, kind: str) -> str:
    """The file of a check's figure."""
    return f"{stem_of(check_id)}.{kind}.svg"


def plan_figures(report: Report) -> dict[str, Callable[[], str]]:
    """The figures of all checks that have something to draw, by file name, each with the function that draws it."""
    figures: dict[str, Callable[[], str]] = {}
    for check in report.checks:
        found = drawable_of(check)
        if found.bars:
            name = figure_name(check.id, "split")
            figures[name] = partial(_draw_split, found.bars, found.bars_workload, found.capacity_bytes)
        if found.courses:
            name = figure_name(check.id, "timeline")
            figures[name] = partial(_draw_timelines, found.courses, found.courses_workload)
        if found.curves:
            name = figure_name(check.id, "sweep")
            figures[name] = partial(_draw_sweep, found.curves, found.capacity_bytes)
        if found.runs:
            name = figure_name(check.id, "run")
            figures[name] = partial(_draw_runs, found.runs, found.capacity_bytes)
        if (grid := grid_of(check)) is not None:
            figures[figure_name(check.id, "grid")] = partial(draw_grid, grid)
    return figures


def draw_figures(report: Report) -> dict[str, str]:
    """Draw them all: file name -> SVG."""
    return {name: draw() for name, draw in plan_figures(report).items()}


def _draw_sweep(curves: Sequence[Curve], capacity_bytes: int | None) -> str:
    """Peaks over growing sizes, a colour a configuration; the GPU's memory as a line across."""
    title, curves = _cut_note(curves), curves[:_MAX_DRAWN]
    with new_figure(height=4.0) as (figure, (axes,)):
        for curve, colour in zip(curves, COLOURS * len(curves), strict=False):
            for (peak, values), style in zip(curve.peaks.items(), ("-", ":"), strict=False):
                points = [float("nan") if value is None else value / _GB for value in values]
                name = f"{curve.label}, {title_of(peak).removeprefix('peak ')}"
                axes.plot(curve.sizes, points, style, color=colour, marker=".", label=legible(name))
        if capacity_bytes is not None:
            axes.axhline(capacity_bytes / _GB, color="black", lw=1, ls="--", label=_LIMIT)
        axes.set(xlabel=curves[0].over, ylabel="at the peak, in GB")
        axes.set_title(title, fontsize="small")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="x-small")
        return to_svg(figure)


def _draw_split(bars: Sequence[Bar], workload: str, capacity_bytes: int | None = None) -> str:
    """Stacked bars: who owns the bytes at the peak, a bar a configuration; the limit as a line, unless it is far."""
    title, bars = workload + _cut_note(bars), bars[:_MAX_DRAWN]
    with new_figure(height=1.4 + 0.3 * (1 + _apart(bars)[-1])) as (figure, (axes,)):
        left = [0.0] * len(bars)
        positions = _apart(bars)
        unit, scale = _unit_of(max(bar.total for bar in bars))
        for kind, colour in colours_of(bars).items():
            widths = [bar.num_bytes.get(kind, 0) / scale for bar in bars]
            axes.barh(positions, widths, left=left, color=COLOURS[colour], label=legible(title_of(kind)), height=0.7)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for position, total, bar in zip(positions, left, bars, strict=True):
            text, beside = format_bytes(bar.total), {"xytext": (4, 0), "textcoords": "offset points"}
            axes.annotate(text, (total, position), va="center", **beside)
        axes.set_yticks(positions, [bar.label for bar in bars])
        axes.set_ylim(positions[-1] + 0.5, -0.5)
        axes.set_xlabel(f"allocated at the peak, in {unit}")
        axes.set_title(title, fontsize="small")
        limit = (capacity_bytes or 0) / scale
        is_near = 0 < limit <= _FAR * max(left)
        if is_near:
            axes.axvline(limit, color="black", lw=1, ls="--", label=_LIMIT)
        axes.set_xlim(0, max(*left, limit if is_near else 0) * 1.15)
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
        return to_svg(figure)


def _draw_timelines(courses: Sequence[Course], workload: str) -> str:
    """Allocated memory over one step: a small panel a configuration, all with the same axes."""
    title, courses = workload + _cut_note(courses), courses[:_MAX_DRAWN]
    num_columns = min(len(courses), _PANELS_A_ROW)
    num_rows = -(-len(courses) // num_columns)
    unit, scale = _unit_of(max(max(course.num_bytes) for course in courses))
    highest = max(max(course.num_bytes) for course in courses) / scale
    with new_figure(height=0.6 + 1.5 * num_rows, panels=(num_rows, num_columns)) as (figure, panels):
        for panel, course in zip(panels, courses, strict=False):
            points = [value / scale for value in thinned(course.num_bytes, _POINTS_A_PANEL)]
            places = [i / max(len(points) - 1, 1) for i in range(len(points))]
            panel.fill_between(places, points, color=COLOURS[5], lw=0)
            panel.set_title(in_lines(course.label, 120 // num_columns), fontsize=7, loc="left")
            at = places[points.index(max(points))]
            align = "left" if at < _EDGE else "right" if at > 1 - _EDGE else "center"
            above = {"xytext": (0, 2), "textcoords": "offset points", "ha": align, "va": "bottom"}
            panel.annotate(format_bytes(max(course.num_bytes)), (at, max(points)), fontsize=7, **above)
            panel.set(xlim=(0, 1), ylim=(0, highest * 1.25), xticks=[])
            panel.tick_params(labelsize=7)
        for panel in panels[len(courses) :]:
            panel.remove()
        figure.supxlabel("one step or call, by its requests to the allocator, with its peak", fontsize=8)
        figure.supylabel(f"allocated, in {unit}", fontsize=8)
        figure.suptitle(title, fontsize="small")
        return to_svg(figure)


def _draw_runs(runs: Sequence[RunCourse], capacity_bytes: int | None) -> str:
    """Each step's peaks, reserved over allocated: a panel a configuration; the limit as a line across."""
    title, runs = _cut_note(runs), runs[:_MAX_DRAWN]
    num_columns = min(len(runs), 2)
    num_rows = -(-len(runs) // num_columns)
    highest = max(*(max(run.reserved) for run in runs), capacity_bytes or 0) / _GB
    with new_figure(height=1.2 + 2.2 * num_rows, panels=(num_rows, num_columns)) as (figure, panels):
        for panel, run in zip(panels, runs, strict=False):
            steps = range(1, len(run.reserved) + 1)
            for name, values, colour in (
                ("reserved", run.reserved, COLOURS[1]),
                ("allocated", run.allocated, COLOURS[0]),
            ):
                panel.step(steps, [value / _GB for value in values], where="mid", color=colour, label=name)
            if capacity_bytes is not None:
                panel.axhline(capacity_bytes / _GB, color="black", lw=1, ls="--", label=_LIMIT)
            panel.set_title(in_lines(run.label, 60), fontsize=7, loc="left")
            panel.set(xlabel="step", ylabel="at its peak, in GB", ylim=(0, highest * 1.1))
            panel.locator_params(axis="x", integer=True)
        for panel in panels[len(runs) :]:
            panel.remove()
        figure.suptitle("a run without a limit" + title, fontsize="small")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return to_svg(figure)


def _unit_of(highest_bytes: int) -> tuple[str, float]:
    """The unit of an axis, and its bytes."""
    return ("GB", 1e9) if highest_bytes >= 1e9 else ("MB", 1e6)


def _apart(bars: Sequence[Bar]) -> list[float]:
    """Where each bar stands: one below the other, with a gap before another preset."""
    positions, at = [0.0], 0.0
    for before, bar in pairwise(bars):
        at += 1.0 if preset_of(before.key) == preset_of(bar.key) else 1.6
        positions.append(at)
    return positions


def thinned(values: Sequence[int], num_points: int) -> list[int]:
    """About as many points, each the highest of its part."""
    every = max(len(values) // num_points, 1)
    return [max(values[i : i + every]) for i in range(0, len(values), every)]


def _cut_note(rows: Sequence[object]) -> str:
    """What a title says where not everything is drawn."""
    return f" (the first {_MAX_DRAWN} of {len(rows):,})" if len(rows) > _MAX_DRAWN else ""
