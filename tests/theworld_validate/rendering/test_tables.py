"""Tables of rows that differ in their columns, titles that would be the same, and values of any size."""

import pytest

from tests.theworld_validate.rendering.form_readers import read_markdown, read_page, read_terminal
from tests.theworld_validate.rendering.sample_reports import make_report
from theworld_validate.rendering.figures import draw_figures
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.page import render_html
from theworld_validate.rendering.tables import (
    bytes_apart,
    describe_measurements,
    evidence_of,
    format_cell,
    tables_of,
    titles_of,
)
from theworld_validate.results import CheckResult, Finding, Measurements, Report, Scalar, Status

RAGGED: Measurements = {
    "cells": [
        {"configuration": "full", "peak_bytes": None, "out_of_memory": "backward"},
        {"configuration": "projection", "peak_bytes": 2_000_000, "step_seconds": 0.5},
        {"batch": 4, "configuration": "last"},
    ]
}


def report_of(measurements: Measurements) -> Report:
    check = CheckResult(id="memory.measure", status=Status.PASSED, seconds=1.0, measurements=measurements)
    return make_report([check], command="theworld-validate memory measure")


def test_columns_are_those_of_all_rows_in_the_order_of_their_first_one() -> None:
    (table,) = tables_of(RAGGED)
    assert [column.key for column in table.columns] == [
        "configuration",
        "peak_bytes",
        "out_of_memory",
        "step_seconds",
        "batch",
    ]
    assert table.rows == (
        ("full", None, "backward", None, None),
        ("projection", 2_000_000, None, 0.5, None),
        ("last", None, None, None, 4),
    )
    assert [column.is_number for column in table.columns] == [False, True, False, True, True]


def test_every_form_shows_all_rows_and_columns() -> None:
    report = report_of(RAGGED)
    markdown = render_markdown(report)
    read_markdown(markdown)
    assert "| projection | 2.0 MB |  | 0.5 |  |" in markdown
    for text in (read_page(render_html(report)).text, " ".join(read_terminal(report).split())):
        for shown in ("full", "projection", "last", "2.0 MB", "backward", "0.5", "step seconds"):
            assert shown in text


def test_amounts_that_differ_are_never_written_alike() -> None:
    assert bytes_apart(155_200_000, 83_751_862) == ("155.2 MB", "83.8 MB")
    assert bytes_apart(83_760_000, 83_751_862) == ("83.76 MB", "83.75 MB")
    assert bytes_apart(3 * 10**9 + 1, 3 * 10**9) == ("3.000000001 GB", "3.000000000 GB")
    assert bytes_apart(5, 5) == ("5 B", "5 B")


def test_evidence_in_bytes_has_its_unit_in_every_form() -> None:
    finding = Finding(
        code="memory.does_not_fit",
        location="full",
        message="full does not fit",
        expected=83_751_862,
        actual=155_189_248,
        field="peak_reserved_bytes",
    )
    assert evidence_of(finding) == [("expected", "83.8 MB"), ("actual", "155.2 MB")]
    check = CheckResult(id="memory.predict", status=Status.FAILED, seconds=1.0, findings=(finding,))
    report = make_report([check])
    forms = (read_page(render_html(report)).text, read_terminal(report), render_markdown(report), render_junit(report))
    for text in forms:
        assert "83.8 MB" in text
        assert "155.2 MB" in text
        assert "83751862" not in text.replace(",", "")
    plain = Finding(code="a.b", location="c", message="d", expected=0, actual=None, field="ratio")
    assert evidence_of(plain) == [("expected", 0)]


@pytest.mark.parametrize("fits", [[False], [False, False], [True, False]])
def test_what_does_not_fit_says_so_where_nothing_fits(fits: list[bool]) -> None:
    rows = [{"configuration": f"c{i}", "peak_bytes": 10**9 + i, "fits": fit} for i, fit in enumerate(fits)]
    text = " ".join(read_terminal(report_of({"cells": rows})).split())
    assert "memory.measure: configurations" in text
    told = {1: "peak fits c0 1.0 GB no", 2: "fits c0 yes c1 no" if any(fits) else "fits: no"}
    assert told[len(fits)] in text


def test_a_check_says_what_was_done_with_what_it_counts() -> None:
    for check_id, told in (("memory.predict", "2 predicted"), ("memory.measure", "2 measured"), ("a.b", "2 compared")):
        check = CheckResult(id=check_id, status=Status.PASSED, seconds=1.0, measurements={"compared": 2})
        assert told in read_terminal(make_report([check]))
    limit: Measurements = {"capacity_bytes": 22 * 10**9, "about_capacity": "22 GiB less 2 % of margin"}
    assert describe_measurements(limit) == "22.0 GB can be reserved (22 GiB less 2 % of margin)"


def test_titles_differ() -> None:
    assert titles_of(["total", "total_bytes", "other_bytes"]) == ["total", "total bytes", "other"]
    assert titles_of(["a_b", "a b", "a_b_bytes"]) == ["a b", "a b (2)", "a b bytes"]
    assert titles_of(["least_bytes", "host_bytes"], table="cells") == ["parameters and inputs", "host"]
    assert titles_of(["cell"], table="levers") == ["configuration"]
    assert titles_of(["over_calibration_ratio"], table="times") == ["growth, each over its own calibration"]
    assert titles_of(["least_bytes"], table="runs") == ["least memory to complete"]  # another thing
    assert titles_of(["x" * 200 + "1", "x" * 200 + "2"]) == ["x" * 77 + "...", "x" * 77 + "... (2)"]
    report = report_of({"t": [{"name": "a", "total": 3, "total_bytes": 4000}, {"name": "b", "total": 5}]})
    assert "| name | total | total bytes |" in render_markdown(report)
    assert "name total total bytes" in " ".join(read_terminal(report).split())


def test_columns_and_lists_are_tables_too() -> None:
    (columns, names) = tables_of({"sizes": {"layer": ["a", "b"], "count": [1]}, "names": ["x", "y"]})
    assert columns.rows == (("a", 1), ("b", None))
    assert names.rows == (("x",), ("y",))
    assert tables_of({"divergence": {"modules": ["a"]}, "curve": [{"points": [1, 2]}], "n": 3, "none": []}) == []


def test_columns_that_are_empty_throughout_are_left_out() -> None:
    (table,) = tables_of({"t": [{"name": "", "zero": 0, "some": 1}, {"name": "", "zero": None}]})
    assert [column.key for column in table.columns] == ["name", "some"]


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("peak_bytes", 8_600_000_000, "8.6 GB"),
        ("peak_bytes", "8 GB", "8 GB"),
        ("peak_bytes", True, "yes"),
        ("share", 0.5, "50.00 %"),
        ("share", "half", "half"),
        ("count", 12345, "12,345"),
        ("count", 10**5000, "an integer of 16,610 bits"),
        ("peak_bytes", 10**5000, "an integer of 16,610 bits"),
        ("ratio", float("inf"), "inf"),
        ("peak_bytes", float("nan"), "nan B"),
        ("name", "a\x1b[31m\n", r"a\x1b[31m\n"),
        ("name", None, ""),
    ],
    ids=range(12),
)
def test_a_cell_of_any_value(column: str, value: Scalar, shown: str) -> None:
    assert format_cell(column, value) == shown
    describe_measurements({column: value})


def test_a_table_wider_than_the_terminal_goes_below_its_rows() -> None:
    rows = [
        {"name": "n" * 70 + str(i), "cause": "a reason that is long " * 4 + str(i), "size_bytes": i} for i in (1, 2)
    ]
    text = read_terminal(report_of({"t": rows}))
    assert "    size: 1 B" in text
    assert text.index("    size: 1 B") < text.index("    size: 2 B")


def test_of_many_configurations_the_others_are_counted() -> None:
    splits = [{"configuration": f"c{i}", "a_bytes": i + 1} for i in range(250)]
    timelines = [{"configuration": f"c{i}", "bytes": [1, i]} for i in range(3)]
    report = report_of({"splits": splits, "timelines": timelines})
    assert "50 configurations more are in report.json." in read_page(render_html(report)).text
    assert "(the first 200 of 250)" in draw_figures(report)["memory.measure.split.svg"]
    assert "the first" not in draw_figures(report)["memory.measure.timeline.svg"]
