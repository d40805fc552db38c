"""The JSON that the product writes: the same values as any writer's, and short."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theworld_validate.documents.compact_json import ROW_WIDTH, WIDTH, compact_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=30), max_leaves=60
)


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    text = compact_json(value)
    assert repr(json.loads(text)) == repr(value)  # 1 is not 1.0, and the order of keys stays
    assert text.isascii()
    assert text.endswith("\n")


def test_rows_and_numbers_are_lines() -> None:
    row = {"configuration": "projection", "peak_allocated_bytes": 24989770240, "fits": None}
    report = {"checks": [{"id": "memory", "rows": [row] * 9, "seconds": list(range(200)), "few": {"a": [1]}}]}
    lines = compact_json(report).splitlines()
    assert lines[5] == f"        {json.dumps(row)},"
    assert f'      "seconds": {list(range(200))},' in lines
    assert '      "few": {"a": [1]}' in lines
    assert len(lines) == 20


def test_what_is_long_has_a_line_for_each_item() -> None:
    words = ["word" * 10] * 4
    assert compact_json(words).count("\n") == 6
    assert compact_json(words[:2]).count("\n") == 1
    assert compact_json({"text": "x" * ROW_WIDTH}).splitlines()[0] == "{"
    assert max(map(len, compact_json([{"a": ["x"] * 20}] * 3).splitlines())) <= WIDTH


def test_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        compact_json({"a": [float("nan")]})
    with pytest.raises(TypeError):
        compact_json({"a": {1, 2}})
