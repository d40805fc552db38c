"""The figure of a grid of verdicts: a square a release and a probe, with a word and a colour, and what these mean.

In: a grid. Out: SVG.
"""

from theworld_validate.rendering.grid_rows import MEANINGS, VERDICTS, Grid
from theworld_validate.rendering.svg import in_lines, new_figure, to_svg
from theworld_validate.rendering.tables import title_of

# Of Okabe and Ito's colours, darker where it is graver; what is as it was stays pale, so that the rest stands out.
SQUARES = dict(
    zip(VERDICTS, ("#FFFFFF", "#A9D9C8", "#56B4E9", "#999999", "#F0C24B", "#D55E00", "#000000"), strict=True)
)
_EDGE = "#666666"
_ON_DARK = ("failed",)  # whose word is written in white
_MAX_ROWS = 200


def draw_grid(grid: Grid) -> str:
    """Draw the grid; the worst verdict of a release stands beside its name."""
    from matplotlib.patches import Patch

    releases = grid.releases[:_MAX_ROWS]
    with new_figure(height=2.1 + 0.3 * len(releases)) as (figure, (axes,)):
        for i, row in enumerate(grid.cells[:_MAX_ROWS]):
            for j, verdict in enumerate(row):
                if verdict in SQUARES:
                    axes.barh(i, 0.94, left=j, height=0.88, color=SQUARES[verdict], edgecolor=_EDGE, lw=0.5)
                    ink = "white" if verdict in _ON_DARK else "black"
                    axes.text(j + 0.47, i, verdict, ha="center", va="center", fontsize=7, color=ink)
        axes.set_yticks(range(len(releases)), [f"{a} ({b})" for a, b in zip(releases, grid.verdicts, strict=False)])
        axes.set_xticks(
            [j + 0.47 for j in range(len(grid.probes))], [in_lines(title_of(name), 12) for name in grid.probes]
        )
        axes.tick_params(labelsize=7, length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.set_xlim(0, len(grid.probes))
        axes.set_ylim(len(releases) - 0.5, -0.5)
        left_out = f" (the first {_MAX_ROWS} of {len(grid.releases):,})" if len(grid.releases) > _MAX_ROWS else ""
        axes.set_title(f"each release against the one before it{left_out}", fontsize="small")
        seen = {verdict for row in grid.cells for verdict in row}
        handles = [
            Patch(facecolor=SQUARES[verdict], edgecolor=_EDGE, lw=0.5, label=f"{verdict}: {MEANINGS[verdict]}")
            for verdict in VERDICTS
            if verdict in seen
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=7)
        return to_svg(figure)
