"""Whose code a line of a traceback is: a library's, or that of what is judged.

In: a frame. Out: the library's name; None for anybody else's code, among it the subject's own.
"""

import sys
from types import FrameType

LIBRARIES = frozenset(
    {
        "accelerate", "bitsandbytes", "diffusers", "huggingface_hub", "numpy", "peft", "safetensors", "tokenizers",
        "torch", "torchao", "transformers", "triton", "trl",
    }
)  # fmt: skip


def library_of(frame: FrameType) -> str | None:
    """The library that a frame runs code of; Python's own count as one."""
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package if package in LIBRARIES or package in sys.stdlib_module_names else None
