"""The learning curve of a run: its losses, as text and as a figure.

In: the folder that `theworld-train` wrote. Out: (stage, step, loss) of each line that was logged; a line of text for
each stage; curve.svg.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


class Point(NamedTuple):
    """The loss at a step of a stage."""

    stage: str
    step: int
    loss: float


def read_curve(trained: Path) -> list[Point]:
    """Read the losses of all finished stages, in their order."""
    run = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    points = []
    for stage in run["stages"]:
        state = json.loads((trained / stage["folder"] / "trainer_state.json").read_text(encoding="utf-8"))
        points += [Point(stage["name"], row["step"], row["loss"]) for row in state["log_history"] if "loss" in row]
    return points


def show_curve(points: list[Point]) -> str:
    """A line a stage: its losses as bars, on a scale of logarithms, and the first and the last of them."""
    heights = [math.log(point.loss) for point in points]
    lowest, reach = min(heights), max(max(heights) - min(heights), 1e-9)
    lines = []
    for stage in dict.fromkeys(point.stage for point in points):
        losses = [point.loss for point in points if point.stage == stage]
        some = [losses[i * len(losses) // _WIDTH] for i in range(_WIDTH)] if len(losses) > _WIDTH else losses
        bars = "".join(_BARS[round((math.log(loss) - lowest) / reach * (len(_BARS) - 1))] for loss in some)
        steps = max(point.step for point in points if point.stage == stage)
        lines.append(f"{stage:12} {bars}  {losses[0]:.3f} -> {losses[-1]:.3f} in {steps} steps")
    return "\n".join(lines)


def write_figure(points: list[Point], path: Path) -> None:
    """Write the curve as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    begun = 0
    for stage in dict.fromkeys(point.stage for point in points):
        own = [point for point in points if point.stage == stage]
        axes.plot([begun + point.step for point in own], [point.loss for point in own], label=stage)
        begun += own[-1].step
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
