"""Both error rates of the referee and of the usual tolerances, on the same benign variants and the same faults.

    python -m benchmarks.error_rates benchmarks/referee-float32.json [--figure FILE.svg]

In: the rows of `benchmarks/referee.py`. Out: tables in Markdown, and a picture of the ratios. A fault counts if strict
parity sees it in trace, outputs or generation. A method errs where it tells a benign variant apart, or does not tell
a fault; its best threshold is the one with the fewest errors on these very rows, which flatters it.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.judged_rows import Row, read_rows
from benchmarks.tolerances import MOST, TOLERANCES
from theworld_validate.compare.judgement import BOUNDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A number for each row, larger where it is more different, and up to where it calls two models the same."""

    name: str
    score: Callable[[Row], float]
    usual: float
    has_threshold: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """What a method does wrong at one threshold."""

    threshold: float
    alarms: int
    missed: int


METHODS = (
    Method(
        name="strict parity: any bit",
        score=lambda row: MOST if row.verdict != "identical" else 0.0,
        usual=0.0,
        has_threshold=False,
    ),
    Method(
        name="referee: the verdict `different`",
        score=lambda row: MOST if row.verdict == "different" else 0.0,
        usual=0.0,
        has_threshold=False,
    ),
    Method(name="referee, the ratios of all places of a forward", score=lambda row: row.ratio, usual=BOUNDS.ratio),
    Method(name="referee, the ratio of the logits alone", score=lambda row: row.logits_ratio or 0, usual=BOUNDS.ratio),
    *(
        Method(name=one.name, score=lambda row, key=key: row.distances[key], usual=one.usual)
        for key, one in TOLERANCES.items()
    ),
)


def errors_at(method: Method, benign: Sequence[Row], faults: Sequence[Row], threshold: float) -> Errors:
    """How many benign variants are told apart, and how many faults are not."""
    alarms = sum(method.score(row) > threshold for row in benign)
    missed = sum(method.score(row) <= threshold for row in faults)
    return Errors(threshold=threshold, alarms=alarms, missed=missed)


def best_of(method: Method, benign: Sequence[Row], faults: Sequence[Row], *, most_alarms: int | None = None) -> Errors:
    """The threshold with the least sum of both rates; of equal ones the middle of the widest gap between scores.

    Args:
        most_alarms: only thresholds with no more false alarms than so many.
    """
    scores = sorted({0.0, *(method.score(row) for row in (*benign, *faults))})
    gaps = [(low, high) for low, high in zip(scores, [*scores[1:], scores[-1] * 2 + 1], strict=True)]
    tried = []
    for low, high in gaps:
        middle = math.sqrt(low * high) if low else 0.0
        found = errors_at(method, benign, faults, middle)
        if most_alarms is None or found.alarms <= most_alarms:
            width = high / low if low else 1.0
            tried.append((found.alarms / len(benign) + found.missed / len(faults), -width, middle, found))
    return min(tried, key=lambda entry: entry[:3])[3]


def print_methods(benign: Sequence[Row], faults: Sequence[Row]) -> None:
    """The table of both error rates, at the published threshold and at the best one."""
    columns = ("method", "usual threshold", "benign told apart", "faults missed", "best threshold", "benign", "missed")
    print("| " + " | ".join((*columns, "missed at 0 alarms")) + " |")
    print("|---|---|---|---|---|---|---|---|")
    for method in METHODS:
        usual = errors_at(method, benign, faults, method.usual)
        if not method.has_threshold:
            print(f"| {method.name} | | {usual.alarms} | {usual.missed} | | | | |")
            continue
        best = best_of(method, benign, faults)
        silent = best_of(method, benign, faults, most_alarms=0)
        cells = [method.name, f"{method.usual:.3g}", usual.alarms, usual.missed, f"{best.threshold:.2g}"]
        print("| " + " | ".join(map(str, [*cells, best.alarms, best.missed, silent.missed])) + " |")


def print_verdicts(benign: Sequence[Row], faults: Sequence[Row]) -> None:
    """The referee's verdicts, and by what it gave them."""
    for name, rows in (("benign", benign), ("faults", faults)):
        counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in sorted({r.verdict for r in rows})}
        print(f"{name}: {len(rows)}: {counts}")
    by_state = [row for row in faults if row.exact]
    by_ratio = [row for row in faults if row.ratio > BOUNDS.ratio]
    by_kind = [row for row in faults if row.is_of_another_kind and row.ratio <= BOUNDS.ratio]
    print(f"faults told by exact checks of what the model is: {len(by_state)}")
    print(f"faults told by the ratios of a forward alone: {len(by_ratio)}")
    print(f"faults told by what has no rounding in a forward (masks, shapes, tokens), not by a ratio: {len(by_kind)}")
    print(f"faults told by neither kind of the forward: {len(faults) - len(by_ratio) - len(by_kind)}")
    for row in faults:
        if row.ratio <= BOUNDS.ratio or row.verdict != "different":
            told = (row.exact or row.numbers or row.gradients or row.missing or ["nothing"])[0]
            print(f"  {row.verdict} {row.name}: ratio {row.ratio:.3g}, gradients {row.gradient_ratio:.3g}; {told}")


def print_bounds(benign: Sequence[Row], faults: Sequence[Row]) -> None:
    """Which bounds the rows support: the greatest benign ratio, and the least of a fault that is beyond the bound."""
    for part, score, bound in (
        ("forward", lambda row: row.ratio, BOUNDS.ratio),
        ("gradients", lambda row: row.gradient_ratio, BOUNDS.gradient_ratio),
    ):
        most = max(benign, key=score)
        beyond = [row for row in faults if score(row) > bound]
        least = min(beyond, key=score)
        print(
            f"{part}: bound {bound:g}; the greatest benign ratio {score(most):.3g} ({most.name}), "
            f"the least of {len(beyond)} faults beyond the bound {score(least):.3g} ({least.name})"
        )


def draw(benign: Sequence[Row], faults: Sequence[Row], path: Path) -> None:
    """Every variant and fault by its greatest ratio, forward and gradients, with the bounds."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "theworld"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.2))
    lines = (
        ("benign, forward", benign, lambda row: row.ratio, "#2a7f4f", BOUNDS.ratio),
        ("faults, forward", faults, lambda row: row.ratio, "#b3372f", BOUNDS.ratio),
        ("benign, gradients", benign, lambda row: row.gradient_ratio, "#2a7f4f", BOUNDS.gradient_ratio),
        ("faults, gradients", faults, lambda row: row.gradient_ratio, "#b3372f", BOUNDS.gradient_ratio),
    )
    for i, (_, rows, score, colour, bound) in enumerate(lines):
        values = sorted(score(row) for row in rows if score(row) > 0)
        heights = [-i + 0.28 * ((k * 0.618034) % 1 - 0.5) for k in range(len(values))]
        axes.plot([min(value, MOST) for value in values], heights, "o", color=colour, alpha=0.6, markersize=4)
        axes.plot([bound, bound], [-i - 0.4, -i + 0.4], color="black", linewidth=1)
    names = [f"{name} ({sum(score(row) > 0 for row in rows)} of {len(rows)})" for name, rows, score, _, _ in lines]
    axes.set_yticks([-i for i in range(len(lines))], names)
    axes.set_xscale("log")
    axes.set_xlabel("greatest |candidate - truth| / |reference - truth|; bounds in black; equal bits not drawn")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="what benchmarks/referee.py wrote")
    parser.add_argument("--figure", type=Path, help="draw the ratios into this file")
    options = parser.parse_args()
    rows = read_rows(options.rows)
    judged = [row for row in rows if row.error is None]
    benign = [row for row in judged if row.kind == "benign"]
    faults = [row for row in judged if row.kind == "fault" and row.is_visible]
    hidden = [row for row in judged if row.kind == "fault" and not row.is_visible]
    print(f"{len(benign)} benign variants, {len(faults)} forward-visible faults, {len(hidden)} others\n")
    print_verdicts(benign, faults)
    print_bounds(benign, faults)
    seen_in_logits = [row for row in faults if row.distances["assert_close"] > 0]
    for title, chosen in (("all", faults), ("whose logits are not bit-equal", seen_in_logits)):
        print(f"\nforward-visible faults, {title}: {len(chosen)}; benign variants: {len(benign)}\n")
        print_methods(benign, chosen)
    for row in judged:
        if row.kind == "environment":
            print(f"{row.name}: {row.verdict} {(row.exact or row.numbers or row.missing or [''])[0]}")
    for row in rows:
        if row.error is not None:
            print(f"stopped: {row.kind} {row.name}: {row.error}")
    if options.figure is not None:
        draw(benign, faults, options.figure)


if __name__ == "__main__":
    main()
