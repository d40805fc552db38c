"""Budget files: what they gate, and every wrong value in one line."""

from pathlib import Path

import pytest

from theworld_validate.memory.budget import Budget, find_overruns, read_budgets
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.outcomes import Measured, Predicted
from theworld_validate.results import InputError

GB = 10**9


def write(folder: Path, text: str) -> Path:
    path = folder / "budget.toml"
    path.write_text(text)
    return path


def test_a_budget_is_about_the_cells_that_it_names(tmp_path: Path) -> None:
    text = "[[budget]]\npreset = 'full'\ncheckpointing = true\nbatch = 2\nmax_allocated_gb = 3\n"
    (budget,) = read_budgets(write(tmp_path, text))
    assert budget == Budget(choices={"preset": "full", "checkpointing": True, "batch": 2}, max_allocated_gb=3.0)
    assert budget.matches(Cell(preset="full", checkpointing=True, batch=2, text_tokens=5))
    assert not budget.matches(Cell(preset="full", batch=2))


def predicted(allocated: int | None = None, reserved: int | None = None) -> Predicted:
    return Predicted(cell=Cell(), least_bytes=2 * GB, peak_allocated_bytes=allocated, peak_reserved_bytes=reserved)


def test_what_is_over_a_budget_is_found() -> None:
    budgets = [Budget(max_allocated_gb=3.0), Budget(choices={"preset": "full"}, max_reserved_gb=1.0)]
    within = predicted(3 * GB, 9 * GB)
    assert [finding.code for finding in find_overruns(budgets, [within])] == ["memory.budget_unused"]
    over = predicted(3 * GB + 1)
    (found,) = find_overruns(budgets[:1], [over])
    assert "takes 3.000000001 GB, and its budget is 3.000000000 GB" in found.message  # what it is about is not rounded
    assert (found.field, found.expected, found.actual) == ("peak_allocated_bytes", 3 * GB, 3 * GB + 1)


def test_what_has_no_figure_is_over_its_budget() -> None:
    budget = [Budget(max_allocated_gb=3.0)]
    found = [
        find_overruns(budget, [predicted()])[0],
        find_overruns(budget, [Measured(cell=Cell(), out_of_memory="forward")])[0],
        find_overruns(budget, [Measured(cell=Cell(), error="boom")])[0],
    ]
    parts = ("takes more than 2.0 GB, which does not fit", "ran out of memory", "was not measured")
    for finding, part in zip(found, parts, strict=True):
        assert part in finding.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[", "budget.toml"),
        ("", "it must hold [[budget]] tables and nothing else"),
        ("limit = 3\n", "it must hold"),
        ("budget = 3\n", "it must hold"),
        ("budget = []\n", "it must hold"),
        ("budget = [1]\n", "budget 1 is 1, and must be a [[budget]] table"),
        ("[budget]\nmax_allocated_gb = 3\n", "it must hold"),
        ("[[budget]]\nmax_alocated_gb = 3\n", "unknown key max_alocated_gb; did you mean max_allocated_gb?"),
        ("[[budget]]\nzzzzzzz = 3\n", "unknown key zzzzzzz; there are task, preset, checkpointing"),
        ("[[budget]]\npreset = 'full'\n", "budget 1 has no limit; give max_allocated_gb or max_reserved_gb"),
        ("[[budget]]\nmax_allocated_gb = 'much'\n", "max_allocated_gb must be a number above 0, up to 1,000,000"),
        ("[[budget]]\nmax_allocated_gb = nan\n", "nan"),
        ("[[budget]]\nmax_allocated_gb = inf\n", "inf"),
        ("[[budget]]\nmax_allocated_gb = -1\n", "max_allocated_gb must be a number above 0"),
        ("[[budget]]\nmax_allocated_gb = 0\n", "max_allocated_gb must be a number above 0"),
        ("[[budget]]\nmax_allocated_gb = true\n", "max_allocated_gb must be a number above 0"),
        (f"[[budget]]\nmax_reserved_gb = 1{'0' * 400}\n", "max_reserved_gb must be a number above 0"),
        ("[[budget]]\nmax_reserved_gb = 1e9\n", "max_reserved_gb must be a number above 0"),
        ("[[budget]]\nmax_reserved_gb = 1\nmax_allocated_gb = nan\n", "nan"),
        ("[[budget]]\nmax_reserved_gb = 1\npreset = 'half'\n", "budget 1: no preset is named 'half'"),
        ("[[budget]]\nmax_reserved_gb = 1\npreset = ['full']\n", "budget 1: no preset is named"),
        ("[[budget]]\nmax_reserved_gb = 1\nbatch = 0\n", "budget 1: batch must be a whole number"),
        ("[[budget]]\nmax_reserved_gb = 1\nbatch = true\n", "budget 1: batch must be a whole number"),
        ("[[budget]]\nmax_reserved_gb = 1\nbatch = 1.0\n", "budget 1: batch must be a whole number"),
        ("[[budget]]\nmax_reserved_gb = 1\ncheckpointing = 1\n", "budget 1: checkpointing must be true or false"),
        (
            "[[budget]]\nbatch = 1\nmax_reserved_gb = 1\n" * 2,
            "budget 2 is about the same configurations as budget 1; keep one",
        ),
        ("[[budget]]\nmax_reserved_gb = 1\nmax_reserved_gb = 2\n", "budget.toml"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_budgets(write(tmp_path, text))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--budget {tmp_path}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["/dev/zero", "/no/such/file.toml", "/"])
def test_what_is_no_file_is_not_read(place: str) -> None:
    with pytest.raises(InputError, match=f"--budget {place}"):
        read_budgets(Path(place))
