"""Verdicts are told apart by their colours too, by people who see fewer: on the page, light or dark, and in figures."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from theworld_validate.rendering import page
from theworld_validate.rendering.grid_figure import SQUARES

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHTS = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
}
XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.9505, 1.0, 1.089)
LEAST = 12.0  # in CIELAB, of large areas beside each other; about 2 can just be told apart
STYLES = ("panel", "good", "near", "open", "bad", "worst")


def times(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lab(colour: str, sight: str) -> list[float]:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    seen = [min(1.0, max(0.0, value)) for value in times(SIGHTS[sight], linear)]
    ratios = [value / white for value, white in zip(times(XYZ, seen), WHITE, strict=True)]
    x, y, z = (r ** (1 / 3) if r > 0.008856 else 7.787 * r + 16 / 116 for r in ratios)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def too_near(colours: dict[str, str]) -> list[tuple[str, str, str]]:
    """Pairs that somebody cannot tell apart."""
    return [
        (one, other, sight)
        for one, other in combinations(colours, 2)
        for sight in SIGHTS
        if sum((a - b) ** 2 for a, b in zip(lab(colours[one], sight), lab(colours[other], sight), strict=True))
        < LEAST**2
    ]


def page_colours(scheme: str) -> dict[str, str]:
    css = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", light if scheme == "light" else dark.split("* {")[0]))
    return {name: found[name] for name in STYLES}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_verdicts_differ_to_every_eye(scheme: str) -> None:
    assert too_near(page_colours(scheme)) == []


def test_the_figures_verdicts_differ_to_every_eye() -> None:
    assert too_near(SQUARES) == []


def test_green_and_red_of_one_lightness_are_too_near() -> None:
    """What the page had before."""
    assert too_near({"good": "#d8f3dc", "worst": "#ffc9c9"}) == [("good", "worst", "deuteranopia")]
