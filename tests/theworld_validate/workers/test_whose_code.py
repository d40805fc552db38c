"""Whose code a frame runs: installed packages are libraries, but for the one that is judged."""

import sys
from types import FrameType

import pytest

from theworld_validate.workers import whose_code
from theworld_validate.workers.whose_code import is_judged, library_of

INSTALLED = "/venv/lib/python3.11/site-packages"


def frame_of(name: str, file: str | None) -> FrameType:
    made: dict[str, FrameType] = {}
    exec("keep['frame'] = getframe()", {"__name__": name, "__file__": file, "keep": made, "getframe": sys._getframe})
    return made["frame"]


@pytest.mark.parametrize(
    ("name", "file", "library"),
    [
        ("flash_attn.ops", f"{INSTALLED}/flash_attn/ops.py", "flash_attn"),
        ("PIL.Image", "/usr/lib/python3/dist-packages/PIL/Image.py", "PIL"),
        ("six", f"{INSTALLED}/six.py", "six"),
        ("transformers.trainer", "/home/me/transformers/src/transformers/trainer.py", "transformers"),
        ("json.decoder", "/usr/lib/python3.11/json/decoder.py", "json"),
        ("my_model", "/home/me/my_model.py", None),
        ("my_site-packages", "/home/me/my-site-packages.d/x.py", None),
        ("theworld.modeling_theworld", f"{INSTALLED}/theworld/modeling_theworld.py", None),
        ("__main__", None, None),
    ],
)
def test_a_library_is_what_is_installed(name: str, file: str | None, library: str | None) -> None:
    assert library_of(frame_of(name, file)) == library


def test_the_package_that_is_judged_is_no_library_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whose_code, "_own", set(whose_code._own))
    frame = frame_of("grafted.model", f"{INSTALLED}/grafted/model.py")
    assert library_of(frame) == "grafted"
    is_judged("grafted.loaders:load")
    assert library_of(frame) is None
