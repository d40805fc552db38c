"""The documents' figures: well-formed, short, and nothing in them is loaded from anywhere."""

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = sorted((ROOT / "docs").rglob("*.svg"))


@pytest.fixture(scope="module")
def figures() -> Any:
    spec = importlib.util.spec_from_file_location("make_figures", ROOT / "tools" / "make_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loaded(svg: str) -> list[str]:
    """The addresses that a picture names, but for the names of XML's own vocabularies."""
    ET.fromstring(svg)
    return re.findall(
        r"""(?:https?:|["'(])//(?!www\.w3\.org|purl\.org|creativecommons\.org|matplotlib\.org)[\w.]+""", svg
    )


def test_what_a_figure_would_load_is_seen() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><style>a{src:url(//x.org/f)}</style><image href="https://y.org/"/></svg>'
    assert loaded(svg) == ["(//x.org", "https://y.org"]


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.name)
def test_a_figure_loads_nothing(path: Path) -> None:
    assert loaded(path.read_text(encoding="utf-8")) == []


def test_every_figure_has_a_maker(figures: Any) -> None:
    made = {path.stem for path in (ROOT / "docs" / "figures").iterdir()}
    assert made == {*figures.FIGURES_BY_NAME, "data-flow"}  # which is drawn by hand


def test_a_terminal_is_drawn_with_colours_and_without_a_font_from_the_net(figures: Any) -> None:
    svg = figures.terminal_svg("\x1b[31mFAIL\x1b[0m  parity.buffers\nsecond line\n", title="a run")
    assert loaded(svg) == []
    words = [word for element in ET.fromstring(svg).iter() for word in (element.text or "").split()]
    assert {"FAIL", "parity.buffers", "second", "a"} <= set(words)
    assert len(set(re.findall(r"\.terminal-r\d+ \{ fill: (#[0-9a-f]+)", svg))) == 2


def test_a_picture_is_shortened_and_stays_the_same(figures: Any) -> None:
    svg = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "a"\n "b">\n<svg xmlns="http://www.w3.org/2000/svg">\n'
        '<metadata>\n who\n</metadata>\n  <path d="M 0 1 \nL 2 3 \nz\n"/>\n<text>two words</text></svg>'
    )
    short = figures.short_svg(svg)
    assert short.count("\n") == 3
    path, text = ET.fromstring(short)
    assert path.attrib["d"].split() == list("M01L23z")
    assert text.text == "two words"


def test_the_tutorial_has_a_wrapper_with_a_fault_and_a_mended_one(figures: Any) -> None:
    broken, mended = figures.tutorial_wrappers()
    assert ".to(torch.bfloat16)" in broken
    assert ".to(" not in mended
    assert [command.split()[1] for command in figures.tutorial_commands()[:2]] == ["synth", "parity"]
