"""The report folder: only the product's own files are replaced or removed, and nothing that was found is lost."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.theworld_validate.rendering.sample_reports import (
    failing_check,
    make_report,
    memory_check,
    parity_report,
    sample_checks,
)
from theworld_validate.documents.report import FIRST_SCHEMA, read_report, report_to_json
from theworld_validate.rendering import folder as folder_module
from theworld_validate.rendering.folder import check_output_folder, render_forms, write_report_folder
from theworld_validate.results import TENSORS_FILE, CheckResult, InputError, Report, Status

FIXED = {"report.json", "report.md", "report.html", "junit.xml"}
MEMORY_FIGURES = {"memory.predict.split.svg", "memory.predict.timeline.svg"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write(report: Report, folder: Path) -> Report:
    """Check the folder, write into it, and see that report.json says what is there."""
    check_output_folder(folder)
    written, errors = write_report_folder(report, folder)
    assert errors == []
    assert read_report(folder) == written
    assert set(written.files) <= names(folder)
    return written


def first_schema(report: Report, folder: Path) -> None:
    """Make a folder as the first house wrote it: without a list of files."""
    values = report_to_json(report) | {"schema": FIRST_SCHEMA}
    for name in ("subjects", "plan", "files", "command_line"):
        del values[name]
    for check in values["checks"]:
        for finding in check["findings"]:
            for name in ("section", "field", "explained_by"):
                del finding[name]
    (folder / "report.json").write_text(json.dumps(values))
    for name in (FIXED | MEMORY_FIGURES) - {"report.json"}:
        (folder / name).write_text("old")


def test_a_folder_has_every_form_and_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    write(make_report(sample_checks()), tmp_path)
    assert names(tmp_path) == FIXED | MEMORY_FIGURES
    (tmp_path / TENSORS_FILE).touch()  # which the next run's check writes
    told = failing_check(measurements={"divergence_tensors_file": TENSORS_FILE})
    written, errors = write_report_folder(make_report([told]), tmp_path)
    assert errors == []
    assert names(tmp_path) == FIXED | {TENSORS_FILE} == set(written.files)
    write(make_report([failing_check()]), tmp_path)
    assert names(tmp_path) == FIXED


def test_a_folder_of_the_first_schema_is_taken_over(tmp_path: Path) -> None:
    first_schema(make_report(sample_checks()), tmp_path)
    write(make_report([failing_check()]), tmp_path)
    assert names(tmp_path) == FIXED


def test_what_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    write(make_report(sample_checks()), tmp_path)
    (tmp_path / "a.b.svg").mkdir()
    (tmp_path / "memory.predict.sweep.svg").mkdir()  # a name that a figure could have
    (tmp_path / "mine.split.svg").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    write(make_report([failing_check()]), tmp_path)
    assert names(tmp_path) == FIXED | {"a.b.svg", "memory.predict.sweep.svg", "mine.split.svg", "notes.txt"}


def test_a_report_that_names_other_files_owns_none_of_them(tmp_path: Path) -> None:
    """A report.json that somebody else gave may name anything."""
    values = report_to_json(make_report([failing_check()])) | {"files": ["thesis.pdf", "../outside.svg", "a.split.svg"]}
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "report.json").write_text(json.dumps(values))
    for name in ("inside/thesis.pdf", "outside.svg"):
        (tmp_path / name).write_text("mine")
    write(make_report([failing_check()]), tmp_path / "inside")
    assert (tmp_path / "inside" / "thesis.pdf").read_text() == (tmp_path / "outside.svg").read_text() == "mine"


def test_a_new_folder_is_made_for_a_report_and_not_before(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    assert check_output_folder(place) == place
    assert names(tmp_path) == set()
    write(make_report([failing_check()]), place)
    assert "report.json" in names(place)


def test_files_beside_a_report_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    check_output_folder(tmp_path)


@pytest.mark.parametrize("name", sorted({*FIXED, TENSORS_FILE}))
def test_a_file_that_no_report_names_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"--output .*{name}") as error:
        check_output_folder(tmp_path)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == {name}


@pytest.mark.parametrize("name", sorted(FIXED))
def test_a_folder_in_the_place_of_a_form_is_refused(name: str, tmp_path: Path) -> None:
    write(make_report(sample_checks()), tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=name):
        check_output_folder(tmp_path)
    del before[name]
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', '{"schema": "other/1", "files": ["report.md"]}', '{"schema": "thewor']
)
def test_a_report_json_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    for refuse in (check_output_folder, lambda folder: write_report_folder(make_report([]), folder)):
        with pytest.raises(InputError, match="no report of theworld-validate"):
            refuse(tmp_path)
    assert (tmp_path / "report.json").read_text() == text


def test_places_where_nothing_can_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    for place in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        tmp_path / "fifo",
        Path("/proc/none"),
        Path("/dev/full"),
    ):
        with pytest.raises(InputError, match="cannot write there") as error:
            check_output_folder(place)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        check_output_folder(tmp_path / "nul\0l")
    with pytest.raises(InputError, match="cannot write there"):
        check_output_folder(tmp_path / ("n" * 300))


def test_a_fifo_in_the_place_of_the_report_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.json")
    with pytest.raises(InputError):
        check_output_folder(tmp_path)


def test_a_deleted_working_directory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InputError, match="absolute path"):
        check_output_folder(Path("out"))
    check_output_folder(tmp_path / "out")


def test_the_path_holds_when_the_working_directory_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = check_output_folder(Path("out"))
    monkeypatch.chdir("/")
    write_report_folder(parity_report(), output)
    assert names(tmp_path / "out") == FIXED


def test_a_folder_that_was_deleted_meanwhile_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    output = check_output_folder(tmp_path / "out")
    output.rmdir()
    write(parity_report(), output)
    assert names(output) == FIXED


FORMS = {"report.md": "render_markdown", "report.html": "render_html", "junit.xml": "render_junit"}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_raises_costs_that_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(report: Report) -> str:
        raise KeyError("boom\nnext line")

    write(make_report([memory_check()]), tmp_path)
    monkeypatch.setattr(folder_module, FORMS[name], broken)
    written, errors = write_report_folder(parity_report(), tmp_path)
    (line,) = errors
    assert f"{name}: not rendered (KeyError: " in line
    assert "\n" not in line
    assert names(tmp_path) == FIXED - {name} == set(written.files)
    assert read_report(tmp_path) == written
    monkeypatch.undo()
    write(parity_report(), tmp_path)
    assert names(tmp_path) == FIXED


def test_a_figure_that_raises_costs_that_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from theworld_validate.rendering import figures

    def broken(*arguments: object) -> str:
        raise MemoryError

    monkeypatch.setattr(figures, "_draw_split", broken)
    written, errors = write_report_folder(make_report([memory_check()]), tmp_path)
    assert [line.split(": ")[1] for line in errors] == ["not rendered (MemoryError"]
    assert names(tmp_path) == FIXED | {"memory.predict.timeline.svg"} == set(written.files)


def test_a_place_that_was_taken_meanwhile_costs_that_form(tmp_path: Path) -> None:
    check_output_folder(tmp_path)
    (tmp_path / "report.html").mkdir()
    (tmp_path / "junit.xml").write_text("mine")
    written, errors = write_report_folder(parity_report(), tmp_path)
    assert len(errors) == 2
    assert set(written.files) == {"report.json", "report.md"}
    assert (tmp_path / "junit.xml").read_text() == "mine"
    assert names(tmp_path) == FIXED
    with pytest.raises(InputError):  # it is still not ours
        check_output_folder(tmp_path)


def test_json_is_written_first_and_then_names_what_will_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed between two forms leaves a folder that the next run can use."""

    def killed(report: Report) -> str:
        raise KeyboardInterrupt

    write(make_report([memory_check()]), tmp_path)
    monkeypatch.setattr(folder_module, "render_html", killed)
    with pytest.raises(KeyboardInterrupt):
        write_report_folder(parity_report(), tmp_path)
    assert read_report(tmp_path).command == parity_report().command
    assert names(tmp_path) == {"report.json", "report.md"}
    monkeypatch.undo()
    write(parity_report(), tmp_path)


LIMITED = """
import resource, sys
from pathlib import Path
from tests.theworld_validate.rendering.sample_reports import failing_check, make_report, parity_report
from theworld_validate.rendering.folder import write_report_folder
from theworld_validate.results import InputError
report = make_report([failing_check()] if sys.argv[2] == "small" else [failing_check(id=f"a.b{i}") for i in range(99)])
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    print(*write_report_folder(report, Path(sys.argv[1]))[1], sep="\\n")
except InputError as error:
    print("refused:", error)
"""


def run_limited(folder: Path, size: str) -> str:
    """Write a report in a process whose files are limited to 3 kB, as a full disk would."""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'validation'}"}
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, folder, size], env=environment, capture_output=True, text=True, check=True
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 3000
    return ran.stdout


def test_a_full_disk_leaves_the_old_report_whole(tmp_path: Path) -> None:
    write(parity_report(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    printed = run_limited(tmp_path, "large")
    assert printed.startswith(f"refused: --output {tmp_path}: cannot write there (File too large)")
    assert printed.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_that_takes_the_json_alone_has_the_json(tmp_path: Path) -> None:
    write(parity_report(), tmp_path)
    printed = run_limited(tmp_path, "small").splitlines()
    assert len(printed) == 1
    assert "report.html: not written (File too large)" in printed[0]
    assert names(tmp_path) == FIXED - {"report.html"} == set(read_report(tmp_path).files)


def test_forms_of_a_report_beside_it_leave_it_as_it_is(tmp_path: Path) -> None:
    written = write(make_report(sample_checks()), tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    html = (tmp_path / "report.html").read_bytes()
    for name in names(tmp_path) - {"report.json"}:
        (tmp_path / name).unlink()
    assert render_forms(read_report(tmp_path), tmp_path) == (written, [])
    assert (tmp_path / "report.json").read_bytes() == before
    assert (tmp_path / "report.html").read_bytes() == html
    assert names(tmp_path) == set(written.files)


def test_forms_of_the_first_schema_leave_it_as_it_is(tmp_path: Path) -> None:
    first_schema(make_report(sample_checks()), tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    _, errors = render_forms(read_report(tmp_path), tmp_path)
    assert errors == []
    assert (tmp_path / "report.json").read_bytes() == before
    assert names(tmp_path) == FIXED | MEMORY_FIGURES
    assert "old" not in {(tmp_path / name).read_text() for name in names(tmp_path)}


def test_forms_elsewhere_get_a_report_of_their_own(tmp_path: Path) -> None:
    written = write(make_report(sample_checks()), tmp_path / "one")
    rendered, errors = render_forms(read_report(tmp_path / "one"), tmp_path / "two")
    assert (rendered, errors) == (written, [])
    for name in written.files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_forms_of_another_report_take_the_place_of_its_own(tmp_path: Path) -> None:
    told = failing_check(measurements={"divergence_tensors_file": TENSORS_FILE})
    write(make_report([told, memory_check()]), tmp_path / "one")
    (tmp_path / "one" / TENSORS_FILE).touch()
    write_report_folder(make_report([told, memory_check()]), tmp_path / "one")
    rendered, errors = render_forms(make_report([told]), tmp_path / "one")
    assert errors == []
    assert names(tmp_path / "one") == FIXED == set(rendered.files)  # the tensors were the other one's


def test_a_form_that_is_missing_from_the_list_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "render_html", lambda report: 1 / 0)
        write_report_folder(parity_report(), tmp_path)
    assert names(tmp_path) == FIXED - {"report.html"}
    rendered, errors = render_forms(read_report(tmp_path), tmp_path)
    assert errors == []
    assert names(tmp_path) == FIXED == set(rendered.files) == set(read_report(tmp_path).files)


def test_a_check_of_one_name_with_a_figure_keeps_to_the_folder(tmp_path: Path) -> None:
    hostile = memory_check()
    checks = [
        CheckResult(id=check_id, status=Status.PASSED, seconds=0.0, measurements=hostile.measurements)
        for check_id in ("../up", "/abs", "a/../b", ".hidden", "x" * 400, "")
    ]
    written, errors = write_report_folder(make_report(checks), tmp_path / "out")
    assert errors == []
    assert names(tmp_path) == {"out"}
    assert names(tmp_path / "out") == set(written.files)
    assert len(written.files) == 4 + 2 * len(checks)
