"""The file of limits: every wrong value is one line with its key."""

from pathlib import Path

import pytest

from theworld_validate.regression.limits import Limits, read_limits
from theworld_validate.results import InputError


def write(path: Path, text: str) -> Path:
    file = path / "budget.toml"
    file.write_text(text)
    return file


def test_a_file_says_what_may_grow(tmp_path: Path) -> None:
    assert read_limits(None) == Limits(memory_growth=0.02, time_growth=None, min_seconds=5.0)
    text = "[memory]\ngrowth = 0.05\n[time]\ngrowth = 0.5\nmin_seconds = 1\n"
    assert read_limits(write(tmp_path, text)) == Limits(memory_growth=0.05, time_growth=0.5, min_seconds=1.0)
    assert read_limits(write(tmp_path, "[memory]\ngrowth = 0\n")) == Limits(memory_growth=0.0)
    assert read_limits(write(tmp_path, "[time]\n")) == Limits(time_growth=0.2)  # a section asks for the gate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[memory]\ngroth = 1\n", "unknown key memory.groth; did you mean memory.growth?"),
        (
            "[memory]\nqqqqqqqqq = 1\n",
            "memory.qqqqqqqqq; there are memory.growth, time.growth, time.min_seconds",
        ),
        ("[disk]\ngrowth = 1\n", "unknown section 'disk'; there are memory and time"),
        ("memory = 1\n", "memory must be a section"),
        ("[[memory]]\ngrowth = 1\n", "memory must be a section"),
        ("[time]\ngrowth = 'much'\n", "time.growth must be a number from 0 to 100, got much"),
        ("[time]\ngrowth = true\n", "time.growth must be a number from 0 to 100, got True"),
        ("[memory]\ngrowth = -0.1\n", "memory.growth must be a number from 0 to 100, got -0.1"),
        ("[memory]\ngrowth = 1e300\n", "memory.growth must be a number from 0 to 100, got 1e+300"),
        (
            f"[time]\nmin_seconds = 1{'0' * 400}\n",
            "to 1e+06, got one of 1,329 bits",
        ),
        ("[memory]\ngrowth = [1]\n", "memory.growth must be a number"),
        ("[memory]\ngrowth = nan\n", "nan"),
        ("[memory]\ngrowth = inf\n", "inf"),
        ("[[", "budget.toml"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_limits(write(tmp_path, text))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--budget {tmp_path}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["/dev/zero", "/no/such/file.toml", "/"])
def test_what_is_no_file_is_not_read(place: str) -> None:
    with pytest.raises(InputError, match=f"--budget {place}"):
        read_limits(Path(place))
