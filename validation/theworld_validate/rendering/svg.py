"""What all figures share: colours, a new figure, and its text as SVG; the same figure gives the same bytes.

In: a height and panels. Out: matplotlib's figure and axes; SVG on a white ground of its own, so that it reads the same
in a dark page.
"""

import contextlib
import io
import textwrap
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour-blind safe (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#999999")
_SETTINGS = {
    "svg.hashsalt": "theworld",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}


def load_matplotlib() -> None:
    """Import what draws, which takes a second or two: for where there is nothing else to do yet."""
    with contextlib.suppress(ImportError):  # said where a figure is drawn
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401


@contextlib.contextmanager
def new_figure(*, height: float, panels: tuple[int, int] = (1, 1)) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A figure, and its axes in reading order; a glyph that the font lacks is no reason for a warning."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(8.0, height), layout="constrained")
        yield figure, list(figure.subplots(*panels, squeeze=False).flat)


def to_svg(figure: "Figure") -> str:
    """Its text, without a date."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def in_lines(label: str, width: int) -> str:
    """A label in lines that are broken between words alone."""
    return "\n".join(textwrap.wrap(label, width, break_long_words=False, break_on_hyphens=False))


def legible(label: str) -> str:
    """A label that a legend shows: matplotlib leaves out those that begin with an underscore."""
    return f" {label}" if label.startswith("_") else label
