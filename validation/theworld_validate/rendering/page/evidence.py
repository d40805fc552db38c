"""The evidence of a divergence, drawn: the module tree over all probes, what was equal before, and how far it spreads.

In: a report's checks. Out: `Evidence`; None where no probe's trace differs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from theworld_validate.rendering.page.module_tree import TreeRow, make_tree
from theworld_validate.rendering.plain_text import line
from theworld_validate.rendering.tables import DIVERGENCE, format_value
from theworld_validate.results import CheckResult, Report, Scalar, Status

_BARS = "▁▂▃▄▅▆▇█"  # from 1e-8 to 1, a power of ten each: how `parity` writes a spread
_NONE = "·"
_MAX_LAYERS = 200
_MAX_PROBES = 12
_MAX_MODULES = 2_000  # of one probe
_STATE = ("parameters", "buffers")
_NUMBERS = {
    "max_abs_difference": "greatest difference",
    "median_ulp": "median difference, in units in the last place",
    "max_ulp": "greatest difference, in units in the last place",
    "differing_share": "elements that differ",
    "example_index": "for example at",
    "tensors_file": "both tensors are in",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What was looked at before the first difference, and whether it is as it should be; None for not compared."""

    name: str
    text: str
    is_good: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadBar:
    """One decoder layer's greatest difference over its greatest value: its height in percent, and in words."""

    height: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the page draws.

    Args:
        place: the first output that differs, in call order; `probe` is whose.
        probes: the tree's columns; `equal_probes` are those that were compared and differ nowhere.
        numbers: of the first difference, as terms with their values.
        spread: a bar a decoder layer; empty where it was not measured.
    """

    place: str
    probe: str
    facts: list[Fact]
    probes: list[str]
    equal_probes: list[str]
    num_probes_left_out: int
    rows: list[TreeRow]
    num_rows_left_out: int
    numbers: list[tuple[str, str]]
    spread: list[SpreadBar]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trace:
    """One probe's modules in call order: outputs, and how many differ."""

    check: CheckResult
    probe: str
    modules: dict[str, tuple[int, int]]

    @property
    def first(self) -> str:
        return next(name for name, (_, differing) in self.modules.items() if differing)


def evidence_of(report: Report) -> Evidence | None:
    """Put together what all probes show of one divergence."""
    traces = [trace for check in report.checks if (trace := _trace_of(check)) is not None]
    if not traces:
        return None
    looked_at = [trace for trace in traces if trace.check.measurements.get("divergence_place") is not None]
    main = (looked_at or traces)[0]
    place = _place_of(main)
    shown = traces[:_MAX_PROBES]
    columns = [trace.modules for trace in shown]
    rows, num_rows_left_out = make_tree(columns, first=main.first, place=place)
    measured = main.check.measurements
    return Evidence(
        place=line(place),
        probe=line(main.probe, 60),
        facts=list(_facts(report, measured.get("divergence_inputs_equal"))),
        probes=[line(trace.probe, 60) for trace in shown],
        equal_probes=[line(name, 60) for check in report.checks if (name := _equal_probe(check))][:_MAX_PROBES],
        num_probes_left_out=len(traces) - len(shown),
        rows=rows,
        num_rows_left_out=num_rows_left_out,
        numbers=[
            (title, _in_words(name, value))
            for name, title in _NUMBERS.items()
            if isinstance(value := measured.get(f"divergence_{name}"), (int, float, str))
        ],
        spread=_spread_bars(measured.get("divergence_spread")),
    )


def _trace_of(check: CheckResult) -> _Trace | None:
    spread = check.measurements.get(DIVERGENCE)
    if not isinstance(spread, dict):
        return None
    columns = [spread.get(name, []) for name in ("modules", "outputs", "differing")]
    modules = {
        line(module, 200): (outputs, differing)
        for module, outputs, differing in list(zip(*columns, strict=False))[:_MAX_MODULES]
        if isinstance(outputs, int) and isinstance(differing, int) and 0 <= differing <= outputs < 1 << 62
    }
    if not any(differing for _, differing in modules.values()):
        return None
    return _Trace(check=check, probe=_probe_of(check), modules=modules)


def _probe_of(check: CheckResult) -> str:
    probe = check.measurements.get("probe")
    return probe if isinstance(probe, str) else check.id.rpartition(".")[2]


def _equal_probe(check: CheckResult) -> str | None:
    """The probe of a check that compared a trace and found no difference."""
    is_equal = check.status is Status.PASSED and check.measurements.get(DIVERGENCE) == {}
    return _probe_of(check) if is_equal else None


def _place_of(trace: _Trace) -> str:
    """The first output that differs, as exactly as it is known, without its probe."""
    own = f"{trace.probe}/"
    seen = trace.check.measurements.get("divergence_place")
    found = [f.location for f in trace.check.findings if f.section == "trace" or f.code.startswith("trace.")]
    for location in (*([seen] if isinstance(seen, str) else []), *found):
        if location.startswith(own):
            return location.removeprefix(own)
    return trace.first


def _facts(report: Report, inputs_equal: Scalar | object) -> Iterator[Fact]:
    """What a reader asks first; nothing of commands that compare no two loads."""
    status = {
        check.id.removeprefix("parity."): check.status for check in report.checks if check.id.startswith("parity.")
    }
    if not status:
        return
    if isinstance(inputs_equal, bool):
        yield Fact(name="its inputs", text="equal" if inputs_equal else "differ already", is_good=inputs_equal)
    else:
        yield Fact(name="its inputs", text="not compared", is_good=None)
    for name in _STATE:
        if status.get(name) is Status.PASSED:
            yield Fact(name=name, text="equal, bit for bit", is_good=True)
        elif status.get(name) is Status.FAILED:
            yield Fact(name=name, text="differ", is_good=False)
        else:
            yield Fact(name=name, text="not compared", is_good=None)
    if (control := status.get("control")) is not None:
        is_good = control is Status.PASSED
        yield Fact(name="the reference, run twice", text="repeats itself" if is_good else "differs", is_good=is_good)


def _in_words(name: str, value: float | str) -> str:
    if isinstance(value, (str, bool)) or not math.isfinite(value):
        return line(value)
    if name == "differing_share":
        return f"{100 * value:.3g} %"
    return format_value(value) if isinstance(value, int) else f"{value:.3g}"


def _spread_bars(spread: object) -> list[SpreadBar]:
    """Bars of a spread as `parity` writes it; none where it is something else."""
    if not isinstance(spread, str) or not 0 < len(spread) <= _MAX_LAYERS or set(spread) - {*_BARS, _NONE, "!"}:
        return []
    return [_spread_bar(f"layer {i}", character) for i, character in enumerate(spread)]


def _spread_bar(layer: str, character: str) -> SpreadBar:
    if character == _NONE:
        return SpreadBar(height=0.0, text=f"{layer}: equal")
    if character == "!":
        return SpreadBar(height=100.0, text=f"{layer}: not finite")
    level = _BARS.index(character) + 1
    return SpreadBar(height=100 * level / len(_BARS), text=f"{layer}: up to 1e{level - len(_BARS)}")
