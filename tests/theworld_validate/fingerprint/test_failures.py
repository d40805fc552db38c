"""A failure names the error in one line, and the line of code that is not the harness's own."""

import torch

from theworld_validate.fingerprint.digest import digest_tensor
from theworld_validate.fingerprint.failures import describe_error, failure_of


def caught(function: object) -> Exception:
    assert callable(function)
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def break_here() -> None:
    raise ValueError("two\nlines")


def test_it_says_where_and_what() -> None:
    failure = failure_of(caught(break_here), "outputs", "text")
    assert (failure.section, failure.probe) == ("outputs", "text")
    assert failure.error == "ValueError: two lines"
    assert failure.place.startswith(f"{__file__}:")
    assert failure.code == 'raise ValueError("two\\nlines")'


def test_frames_of_the_harness_are_passed_over() -> None:
    meta = torch.empty(2, device="meta")
    failure = failure_of(caught(lambda: digest_tensor(meta)), "parameters")
    assert failure.place.startswith(f"{__file__}:")
    assert failure.probe is None
    assert failure.error.startswith("NoBits: a tensor on the meta device")


def test_an_error_that_was_never_raised_has_no_place() -> None:
    failure = failure_of(ValueError("x"), "outputs")
    assert failure.place == "unknown"
    assert failure.code is None


def test_code_without_a_source_has_none() -> None:
    failure = failure_of(caught(lambda: exec("raise KeyError('k')")), "outputs")
    assert failure.place == "<string>:1"
    assert failure.code is None


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_errors_are_one_bounded_line() -> None:
    assert describe_error(KeyError()) == "KeyError"
    assert describe_error(UnspeakableError()) == "UnspeakableError: its message cannot be made"
    long = describe_error(ValueError("a\x1b[31m\u202e" + "x" * 5_000))
    assert long.isprintable()
    assert len(long) < 600
