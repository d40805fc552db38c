"""Figures of a report, as SVG: the same report gives the same bytes.

In: a report's checks. Out: file names, and what draws each; nothing where no check has something to draw.
"""

import contextlib
import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from theworld_validate.rendering.grid_rows import VERDICTS, Grid, grid_of
from theworld_validate.rendering.memory_rows import Bar, Course, Curve, RunCourse, drawable_of, kinds_of, preset_of
from theworld_validate.rendering.names import stem_of
from theworld_validate.rendering.tables import title_of
from theworld_validate.results import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour-blind safe (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#999999")
_GB = 1e9
_PANELS_A_ROW = 4
_POINTS_A_PANEL = 120
_LIMIT = "the limit of the GPU"
_FAR = 4  # times what is drawn: a limit beyond it would flatten everything
_MAX_DRAWN = 200  # bars, panels or curves of one figure
FIGURE_KINDS = ("split", "timeline", "sweep", "run", "grid")
_SETTINGS = {
    "svg.hashsalt": "theworld",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}


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
            figures[figure_name(check.id, "grid")] = partial(_draw_grid, grid)
    return figures


def draw_figures(report: Report) -> dict[str, str]:
    """Draw them all: file name -> SVG."""
    return {name: draw() for name, draw in plan_figures(report).items()}


def _draw_sweep(curves: Sequence[Curve], capacity_bytes: int | None) -> str:
    """Peaks over growing sizes, a colour a configuration; the GPU's memory as a line across."""
    title, curves = _cut_note(curves), curves[:_MAX_DRAWN]
    with _new_figure(height=4.0) as (figure, (axes,)):
        for curve, colour in zip(curves, _COLOURS * len(curves), strict=False):
            for (peak, values), style in zip(curve.peaks.items(), ("-", ":"), strict=False):
                points = [float("nan") if value is None else value / _GB for value in values]
                name = f"{curve.label}, {title_of(peak).removeprefix('peak ')}"
                axes.plot(curve.sizes, points, style, color=colour, marker=".", label=_legible(name))
        if capacity_bytes is not None:
            axes.axhline(capacity_bytes / _GB, color="black", lw=1, ls="--", label=_LIMIT)
        axes.set(xlabel=curves[0].over, ylabel="GB at the peak")
        axes.set_title(title, fontsize="small")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="x-small")
        return _to_svg(figure)


def _draw_split(bars: Sequence[Bar], workload: str, capacity_bytes: int | None = None) -> str:
    """Stacked bars: who owns the bytes at the peak, a bar a configuration; the limit as a line, unless it is far."""
    title, bars = workload + _cut_note(bars), bars[:_MAX_DRAWN]
    with _new_figure(height=1.4 + 0.3 * (1 + _apart(bars)[-1])) as (figure, (axes,)):
        left = [0.0] * len(bars)
        positions = _apart(bars)
        for kind, colour in zip(kinds_of(bars), _COLOURS * len(bars), strict=False):
            widths = [bar.num_bytes.get(kind, 0) / _GB for bar in bars]
            axes.barh(positions, widths, left=left, color=colour, label=_legible(title_of(kind)), height=0.7)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for position, total in zip(positions, left, strict=True):
            axes.text(total, position, f" {total:.1f}", va="center")
        axes.set_yticks(positions, [bar.label for bar in bars])
        axes.set_ylim(positions[-1] + 0.5, -0.5)
        axes.set_xlabel("GB allocated at the peak")
        axes.set_title(title, fontsize="small")
        limit = (capacity_bytes or 0) / _GB
        is_near = 0 < limit <= _FAR * max(left)
        if is_near:
            axes.axvline(limit, color="black", lw=1, ls="--", label=_LIMIT)
        axes.set_xlim(0, max(*left, limit if is_near else 0) * 1.12)
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
        return _to_svg(figure)


def _draw_timelines(courses: Sequence[Course], workload: str) -> str:
    """Allocated memory over one step: a small panel a configuration, all with the same axes."""
    title, courses = workload + _cut_note(courses), courses[:_MAX_DRAWN]
    num_columns = min(len(courses), _PANELS_A_ROW)
    num_rows = -(-len(courses) // num_columns)
    highest = max(max(course.num_bytes) for course in courses) / _GB
    with _new_figure(height=0.6 + 1.5 * num_rows, panels=(num_rows, num_columns)) as (figure, panels):
        for panel, course in zip(panels, courses, strict=False):
            points = [value / _GB for value in thinned(course.num_bytes, _POINTS_A_PANEL)]
            places = [i / max(len(points) - 1, 1) for i in range(len(points))]
            panel.fill_between(places, points, color=_COLOURS[5], lw=0)
            panel.set_title(_in_lines(course.label, 30), fontsize=6, loc="left")
            panel.text(1, max(points), f"peak {max(points):.1f}", ha="right", va="bottom", fontsize=6)
            panel.set(xlim=(0, 1), ylim=(0, highest * 1.15), xticks=[])
            panel.tick_params(labelsize=6)
        for panel in panels[len(courses) :]:
            panel.remove()
        figure.supxlabel("one step or call, by its requests to the allocator", fontsize=8)
        figure.supylabel("GB allocated", fontsize=8)
        figure.suptitle(title, fontsize="small")
        return _to_svg(figure)


def _draw_runs(runs: Sequence[RunCourse], capacity_bytes: int | None) -> str:
    """Each step's peaks, reserved over allocated: a panel a configuration; the limit as a line across."""
    title, runs = _cut_note(runs), runs[:_MAX_DRAWN]
    num_columns = min(len(runs), 2)
    num_rows = -(-len(runs) // num_columns)
    highest = max(*(max(run.reserved) for run in runs), capacity_bytes or 0) / _GB
    with _new_figure(height=1.2 + 2.2 * num_rows, panels=(num_rows, num_columns)) as (figure, panels):
        for panel, run in zip(panels, runs, strict=False):
            steps = range(1, len(run.reserved) + 1)
            for name, values, colour in (
                ("reserved", run.reserved, _COLOURS[1]),
                ("allocated", run.allocated, _COLOURS[0]),
            ):
                panel.step(steps, [value / _GB for value in values], where="mid", color=colour, label=name)
            if capacity_bytes is not None:
                panel.axhline(capacity_bytes / _GB, color="black", lw=1, ls="--", label=_LIMIT)
            panel.set_title(_in_lines(run.label, 60), fontsize=7, loc="left")
            panel.set(xlabel="step", ylabel="GB at its peak", ylim=(0, highest * 1.1))
            panel.locator_params(axis="x", integer=True)
        for panel in panels[len(runs) :]:
            panel.remove()
        figure.suptitle("a run without a limit" + title, fontsize="small")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return _to_svg(figure)


def _draw_grid(grid: Grid) -> str:
    """A square a release and a probe, coloured by its verdict; the worst verdict of a release stands beside it."""
    chosen = (_COLOURS[2], _COLOURS[5], _COLOURS[7], _COLOURS[1], _COLOURS[3], _COLOURS[4])
    colours = dict(zip(VERDICTS, chosen, strict=True))
    releases = grid.releases[:_MAX_DRAWN]
    with _new_figure(height=1.6 + 0.3 * len(releases)) as (figure, (axes,)):
        for i, row in enumerate(grid.cells[:_MAX_DRAWN]):
            for j, verdict in enumerate(row):
                if verdict in colours:
                    axes.barh(i, 0.94, left=j, height=0.88, color=colours[verdict])
                    axes.text(j + 0.47, i, verdict, ha="center", va="center", fontsize=6)
        axes.set_yticks(range(len(releases)), [f"{a} ({b})" for a, b in zip(releases, grid.verdicts, strict=False)])
        axes.set_xticks(
            [j + 0.47 for j in range(len(grid.probes))], [_in_lines(title_of(name), 12) for name in grid.probes]
        )
        axes.tick_params(labelsize=7, length=0)
        axes.set_xlim(0, len(grid.probes))
        axes.set_ylim(len(releases) - 0.5, -0.5)
        axes.set_title("each release against the one before it" + _cut_note(grid.releases), fontsize="small")
        return _to_svg(figure)


def _in_lines(label: str, width: int) -> str:
    """A label in lines that are broken between words alone."""
    return "\n".join(textwrap.wrap(label, width, break_long_words=False, break_on_hyphens=False))


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


def _legible(label: str) -> str:
    """A label that a legend shows: matplotlib leaves out those that begin with an underscore."""
    return f" {label}" if label.startswith("_") else label


def load_matplotlib() -> None:
    """Import what draws, which takes a second or two: for where there is nothing else to do yet."""
    with contextlib.suppress(ImportError):  # said where a figure is drawn
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401


@contextlib.contextmanager
def _new_figure(*, height: float, panels: tuple[int, int] = (1, 1)) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A figure, and its axes in reading order; a glyph that the font lacks is no reason for a warning."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(8.0, height), layout="constrained")
        yield figure, list(figure.subplots(*panels, squeeze=False).flat)


def _to_svg(figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
