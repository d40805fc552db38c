"""Damaged files of limits and of budgets: refused in one line, or read with every value in its range."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mutations import SETTINGS, damaged_bytes, refused_or
from theworld_validate.memory.budget import MAX_GB, read_budgets
from theworld_validate.memory.cells import Cell, check_value
from theworld_validate.regression.limits import Limits, read_limits
from theworld_validate.results import InputError

LIMITS = "# what may grow\n[memory]\ngrowth = 0.02\n\n[time]\ngrowth = 0.20\nmin_seconds = 5\n"
BUDGETS = (
    '[[budget]]\npreset = "projection"\ncheckpointing = true\nbatch = 1\nmax_allocated_gb = 24.0\n\n'
    '[[budget]]\noptimizer = "adamw-8bit"\nworld_tokens = 784\nmax_allocated_gb = 40\nmax_reserved_gb = 44.5\n'
)
HOSTILE = (
    "nan", "-nan", "inf", "-inf", "1e999", "-1e999", "1e-400", "-1", "0", "1", "1.0", "true", "false", '"x"', '""',
    "[]", "{}", "[0.5]", "{x = 1}", "0x" + "f" * 9000, "9" * 4000, "9" * 5000, "0o7", "1_000", "[0x" + "f" * 9000 + "]",
    '"\\u0000"', '"\\ud800"', '"a\\nb"', '"""\na\nb"""', "1979-05-27", "07:32:00", "[" * 100 + "]" * 100, "'x'",
    "[" * 3000 + "]" * 3000, '"' + "x" * 5000 + '"', "'\\'", "1e6", "1000001", "100.1", "[nan]", "{a.b.c = 1}",
    '"projection"', '"mixed"', "784", "785",
)  # fmt: skip
NAMES = (
    "growth", "memory", "time", "min_seconds", "batch", "preset", "num_gpus", "max_allocated_gb", "max_reserved_gb",
    '""', '"a\\nb"', '"\\u0000"', '"\\u202e"', "x" * 3000, "a.b", "a" + ".a" * 200, "a" + ".a" * 5000, "growht",
    "__class__", "0", "budget",
)  # fmt: skip


@st.composite
def damaged_lines(draw: st.DrawFn, original: str) -> bytes:
    """One to three damages of lines: deleted, repeated, moved, renamed, given other values, put into other sections."""
    lines = original.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        number, other = draw(st.tuples(st.integers(0, len(lines)), st.integers(0, len(lines))))
        line = lines[number] if number < len(lines) else ""
        name, _, value = line.partition(" = ")
        kind = draw(st.sampled_from(("value", "value", "value", "name", "delete", "repeat", "move", "header", "array")))
        if kind == "value" and value:
            lines[number] = f"{name} = {draw(st.sampled_from(HOSTILE))}"
        elif kind == "name":
            lines[number : number + 1] = [f"{draw(st.sampled_from(NAMES))} = {value or 1}"]
        elif kind == "delete":
            del lines[number : number + 1]
        elif kind == "repeat":
            lines[other:other] = lines[number : number + 3]
        elif kind == "move":
            lines[other:other] = [lines.pop(number)] if number < len(lines) else []
        else:
            mark = "[{}]" if kind == "header" else "[[{}]]"
            lines[number : number + 1] = [mark.format(draw(st.sampled_from(NAMES)))]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toml") / "file.toml"


def test_the_undamaged_ones_are_read(file: Path) -> None:
    file.write_text(LIMITS)
    assert read_limits(file) == Limits(memory_growth=0.02, time_growth=0.2, min_seconds=5.0)
    file.write_text(BUDGETS)
    assert [budget.max_allocated_gb for budget in read_budgets(file)] == [24.0, 40.0]


@SETTINGS
@given(data=st.one_of(damaged_bytes(LIMITS.encode()), damaged_lines(LIMITS), damaged_lines(LIMITS)))
def test_damaged_limits(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    limits = refused_or(lambda: read_limits(file), InputError)
    if limits is not None:
        highest = {"memory_growth": 100.0, "time_growth": 100.0, "min_seconds": 1e6}
        for field in fields(Limits):
            value = getattr(limits, field.name)
            assert (value is None and field.name == "time_growth") or 0 <= value <= highest[field.name]
            assert value is None or (type(value) is float and math.isfinite(value))
        assert (limits.time_growth is None) == (b"time" not in data)


@SETTINGS
@given(data=st.one_of(damaged_bytes(BUDGETS.encode()), damaged_lines(BUDGETS), damaged_lines(BUDGETS)))
def test_damaged_budgets(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    budgets = refused_or(lambda: read_budgets(file), InputError)
    if budgets is not None:
        assert budgets
        assert len({tuple(sorted(budget.choices.items())) for budget in budgets}) == len(budgets)
    for budget in budgets or ():
        given: list[Any] = [limit for limit in (budget.max_allocated_gb, budget.max_reserved_gb) if limit is not None]
        assert given
        assert all(type(limit) is float and 0 < limit <= MAX_GB for limit in given)
        for name, value in budget.choices.items():
            check_value(name, value)
            assert type(value) is type(getattr(Cell(), name))
        budget.matches(Cell())
