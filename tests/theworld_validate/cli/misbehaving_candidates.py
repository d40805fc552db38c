"""Candidates that do what no model should: end the process, patch the judge, print, change directory, delete files."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma3ForConditionalGeneration as Gemma

from tests.theworld_validate.faulty_candidates import last_bit_flipped


class Unusual(BaseException):
    """Not an Exception."""


def exits_with_0(checkpoint: str, **arguments: Any) -> Any:
    sys.exit(0)


def exits_at_once(checkpoint: str, **arguments: Any) -> Any:
    os._exit(0)


def becomes_another_program(checkpoint: str, **arguments: Any) -> Any:
    os.execv("/bin/true", ["true"])


def dies(checkpoint: str, **arguments: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(checkpoint: str, **arguments: Any) -> Any:
    time.sleep(600)


def raises_a_base_exception(checkpoint: str, **arguments: Any) -> Any:
    raise Unusual("boom")


def raises_generator_exit(checkpoint: str, **arguments: Any) -> Any:
    raise GeneratorExit


def raises_runtime_error(checkpoint: str, **arguments: Any) -> Any:
    raise RuntimeError("boom")


def raises_stop_iteration(checkpoint: str, **arguments: Any) -> Any:
    raise StopIteration


def exits_in_forward(checkpoint: str, **arguments: Any) -> Any:
    model = Gemma.from_pretrained(checkpoint, **arguments)

    class Exiting(Gemma):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            sys.exit(0)

    model.__class__ = Exiting
    return model


def raises_in_forward(checkpoint: str, **arguments: Any) -> Any:
    model = Gemma.from_pretrained(checkpoint, **arguments)

    class Raising(Gemma):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("\x1b[31mboom\x1b[0m <script>alert(1)</script>\n::error::x")

    model.__class__ = Raising
    return model


def prints_megabytes(checkpoint: str, **arguments: Any) -> Any:
    print("noise " * 900_000)
    print("more noise", file=sys.stderr)
    return Gemma.from_pretrained(checkpoint, **arguments)


def takes_stdout_away(checkpoint: str, **arguments: Any) -> Any:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    return Gemma.from_pretrained(checkpoint, **arguments)


def changes_directory(checkpoint: str, **arguments: Any) -> Any:
    os.chdir("/")
    return Gemma.from_pretrained(checkpoint, **arguments)


def deletes_the_output(checkpoint: str, **arguments: Any) -> Any:
    shutil.rmtree(os.environ["THEWORLD_TEST_OUTPUT"], ignore_errors=True)  # it is loaded twice
    return Gemma.from_pretrained(checkpoint, **arguments)


def patches_the_judge(checkpoint: str, **arguments: Any) -> Any:
    from theworld_validate import results
    from theworld_validate.cli import session
    from theworld_validate.compare import differences
    from theworld_validate.parity import check, judge

    for module in (differences, judge, check):
        for name in ("diff_section", "diff_trace"):
            if hasattr(module, name):
                setattr(module, name, lambda *args: ())
    session.exit_code = results.exit_code = lambda verdict: 0
    return last_bit_flipped(checkpoint, **arguments)


def changes_the_default_dtype(checkpoint: str, **arguments: Any) -> Any:
    model = Gemma.from_pretrained(checkpoint, **arguments)
    torch.set_default_dtype(torch.float64)
    return model


def switches_gradients_off(checkpoint: str, **arguments: Any) -> Any:
    model = Gemma.from_pretrained(checkpoint, **arguments)
    torch.set_grad_enabled(False)
    return model


def changes_the_threads(checkpoint: str, **arguments: Any) -> Any:
    model = Gemma.from_pretrained(checkpoint, **arguments)
    torch.set_num_threads(torch.get_num_threads() + 1)
    return model


def takes_too_few_arguments(folder: str) -> Any:
    return Gemma.from_pretrained(folder)


def returns_nothing(checkpoint: str, **arguments: Any) -> Any:
    return None


def _text() -> str:
    """What a test wants said; the environment holds neither null characters nor surrogates."""
    return str(json.loads(os.environ["THEWORLD_TEST_TEXT"]))


def raises_a_text_in_forward(checkpoint: str, **arguments: Any) -> Any:
    model = Gemma.from_pretrained(checkpoint, **arguments)

    def fail(*_: Any) -> None:
        raise RuntimeError(_text())

    model.model.language_model.layers[1].register_forward_pre_hook(fail)
    return model


def raises_a_text_while_loading(checkpoint: str, **arguments: Any) -> Any:
    raise ValueError(_text())


def prints_a_text(checkpoint: str, **arguments: Any) -> Any:
    print(_text())
    return last_bit_flipped(checkpoint, **arguments)


def is_named_after_a_text(checkpoint: str, **arguments: Any) -> Any:
    """A module's class, an attribute of it, a module's name, a value and a field of the config."""
    model = Gemma.from_pretrained(checkpoint, **arguments)
    text = _text()
    norm = model.model.language_model.norm
    class_name = text.replace("\0", "").encode("utf-8", "backslashreplace").decode()  # Python takes no others
    norm.__class__ = type(class_name, (type(norm),), {})
    norm.__dict__[text] = text
    model.model.language_model.register_module(text.replace(".", "") or "x", torch.nn.Linear(2, 2))
    model.config.evil = text
    setattr(model.config, text, text)
    return model


class Unloadable:
    """A class without from_pretrained."""


A_NUMBER = 5
OUTPUT = Path("nowhere")
