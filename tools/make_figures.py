"""The figures of the documents, made from real runs and committed reports: `python tools/make_figures.py [NAME ...]`.

In: the tutorial's faulty wrapper, which is run; committed reports. Out: SVG files in docs/figures/, which load nothing
from anywhere. docs/figures/data-flow.svg is drawn by hand.
"""

import argparse
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "docs" / "figures"
TUTORIAL = ROOT / "docs" / "tutorials" / "prove-my-wrapper.md"
COLUMNS = 100


def tutorial_wrappers() -> list[str]:
    """The code of `wrapper.py` that the tutorial shows: with its fault, and mended."""
    return re.findall(r'```python title="wrapper.py"\n(.*?)```', TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)


def tutorial_commands() -> list[str]:
    """The command lines that the tutorial shows, in order."""
    return re.findall(r"^    (theworld-validate .*)$", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE)


def failing_parity() -> str:
    """The terminal's picture of the tutorial's failing command, which is run in an empty folder."""
    synth, parity, *_ = tutorial_commands()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wrapper.py").write_text(tutorial_wrappers()[0], encoding="utf-8")
        _run(synth, folder, expected=0)
        return terminal_svg(_run(parity, folder, expected=1), title="theworld-validate parity")


def _run(command: str, folder: str, *, expected: int) -> str:
    """Run a command of the product as a terminal would show it; what it prints, with its colours."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    arguments = [sys.executable, "-m", *shlex.split(command.replace("theworld-validate", "theworld_validate", 1))]
    ended = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != expected:
        raise SystemExit(f"{command}: exit code {ended.returncode}, expected {expected}\n{ended.stderr[-2000:]}")
    return ended.stdout


def terminal_svg(printed: str, *, title: str) -> str:
    """Draw what a terminal shows, by rich, without the font that rich would have loaded from the net."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in printed.strip("\n").split("\n"):
        console.print(Text.from_ansi(line), soft_wrap=True)
    console.print(" ")  # a line that is empty is not drawn, and the last one that is drawn has its descenders cut
    local = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    local = local.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    return short_svg(console.export_svg(title=title, code_format=local, unique_id="terminal"))


def figure_of(report: str, name: str) -> str:
    """One figure of a committed report, as `theworld-validate render` draws it."""
    from theworld_validate.documents.report import read_report
    from theworld_validate.rendering.figures import draw_figures

    return short_svg(draw_figures(read_report(ROOT / "reports" / report))[name])


def short_svg(svg: str) -> str:
    """The same picture in fewer lines: white space within attributes, and what viewers do not read, are left out."""
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'"[^"<>]*\n[^"<>]*"', lambda match: " ".join(match[0].split()), svg)
    return "\n".join(line.strip() for line in svg.split("\n") if line.strip()) + "\n"


FIGURES_BY_NAME: dict[str, Callable[[], str]] = {
    "failing-parity": failing_parity,
    "rollout-memory": lambda: figure_of("h200-4b/rollout-predict", "memory.predict.timeline.svg"),
    "releases": lambda: figure_of("releases", "releases.table.grid.svg"),
}


def main() -> None:
    """Make those that are named, or all."""
    from theworld_validate.documents.writing import replace_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES_BY_NAME))
    names = parser.parse_args().names or list(FIGURES_BY_NAME)
    if unknown := set(names) - set(FIGURES_BY_NAME):
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES_BY_NAME)}")
    for name in names:
        replace_file(FIGURES / f"{name}.svg", FIGURES_BY_NAME[name]())
        print(f"docs/figures/{name}.svg")


if __name__ == "__main__":
    main()
