"""A failure names the error in one line, and the line of code that is not the harness's own."""

from collections.abc import Callable

import torch
from transformers import Gemma3TextConfig
from transformers.generation.utils import GenerationMixin

from theworld_validate.documents.observations import Failure
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


class TakesAnything(torch.nn.Module):
    """Its own code passes on what it is given, and does nothing wrong that a line could show."""

    def forward(self, *args: object, **kwargs: object) -> object:
        return args, kwargs


class CallsALibrary(TakesAnything):
    def forward(self, size: int) -> object:
        return torch.nn.functional.pad(torch.zeros(1), (size,))


def test_the_models_own_line_is_named_and_not_the_librarys_below_it() -> None:
    failure = failure_of(caught(lambda: CallsALibrary()(1)), "outputs")
    assert failure.place.startswith(f"{__file__}:")
    assert failure.code == "return torch.nn.functional.pad(torch.zeros(1), (size,))"
    assert (failure.library, failure.called) == (None, None)


def failure_of_the_library(ask: Callable[[], object]) -> Failure:
    """As the harness asks, whose frames are passed over."""
    error = caught(ask)
    while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code.co_filename == __file__:
        error.__traceback__ = error.__traceback__.tb_next
    return failure_of(error, "outputs")


def test_without_a_line_of_the_models_the_library_is_named_and_the_function_that_was_called() -> None:
    model = TakesAnything()
    failure = failure_of_the_library(lambda: torch.nn.Module.get_submodule(model, "nowhere"))
    assert "/torch/nn/modules/module.py:" in failure.place
    assert (failure.library, failure.function) == ("torch", "TakesAnything.get_submodule")
    assert failure.called is None


def test_an_error_in_the_librarys_own_forward_is_not_one_of_its_signature() -> None:
    """As memory that runs out; torch's own TypeErrors speak of arguments too."""
    failure = failure_of_the_library(lambda: torch.nn.Linear(2, 2)(None))
    assert failure.error.startswith("TypeError: linear(): argument 'input'")
    assert (failure.function, failure.called) == ("Linear.forward", None)


def test_an_argument_that_is_refused_is_told_with_the_signature() -> None:
    model = torch.nn.Linear(2, 2)
    failure = failure_of_the_library(lambda: model(torch.zeros(2), pixel_values=None))
    assert "got an unexpected keyword argument 'pixel_values'" in failure.error
    assert str(failure.called).startswith("Linear.forward(self, input:")


def test_what_generate_refuses_is_told_with_the_signature() -> None:
    kind = type("Model", (GenerationMixin,), {"forward": TakesAnything.forward, "config": Gemma3TextConfig()})
    failure = failure_of_the_library(lambda: kind()._validate_model_kwargs({"world_frames": 1}))
    assert failure.error.startswith("ValueError: The following `model_kwargs` are not used")
    assert str(failure.called).startswith("Model.forward(self, *args")


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
