"""Releases for tests: prepared folders, each with the installed library and one thing changed in it.

In: a folder, a version, code. Out: an environment as `--environments` holds them. Nothing is installed.
"""

from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

from theworld_validate.releases.environments import write_record

# Finds the library further on the path, and stands for it: what follows changes something.
_STAND_IN = """
import importlib.machinery, importlib.util, sys
from pathlib import Path
_here = Path(__file__).parent.parent
_spec = importlib.machinery.PathFinder.find_spec("transformers", [p for p in sys.path if Path(p) != _here])
_library = importlib.util.module_from_spec(_spec)
sys.modules["transformers"] = _library
_spec.loader.exec_module(_library)
"""

PLAIN = ""
# One sum as two: other bits, and the same result.
ROUNDED = """
from torch.nn.functional import linear
from transformers.models.llama import modeling_llama
def _in_two(self, x):
    inner, weight = self.act_fn(self.gate_proj(x)) * self.up_proj(x), self.down_proj.weight
    half = inner.shape[-1] // 2
    return linear(inner[..., :half], weight[:, :half]) + linear(inner[..., half:], weight[:, half:])
modeling_llama.LlamaMLP.forward = _in_two
"""
CHANGED = """
from transformers.models.llama import modeling_llama
_forward = modeling_llama.LlamaMLP.forward
modeling_llama.LlamaMLP.forward = lambda self, x: _forward(self, x) * 1.001
"""
LOST = """
import shutil, tempfile
from pathlib import Path
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM
_load = LlamaForCausalLM.from_pretrained.__func__
def _with_other_names(cls, checkpoint, *arguments, **named):
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(checkpoint, Path(scratch, "renamed"))
        tensors = load_file(folder / "model.safetensors")
        tensors["model.former_norm.weight"] = tensors.pop("model.norm.weight")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return _load(cls, folder, *arguments, **named)
LlamaForCausalLM.from_pretrained = classmethod(_with_other_names)
"""
SILENTLY_RANDOM = """
import torch
from transformers import LlamaForCausalLM
_load = LlamaForCausalLM.from_pretrained.__func__
def _with_a_random_norm(cls, *arguments, **named):
    found = _load(cls, *arguments, **named)
    torch.nn.init.normal_((found[0] if isinstance(found, tuple) else found).model.norm.weight)
    return found
LlamaForCausalLM.from_pretrained = classmethod(_with_a_random_norm)
"""
DEAD = """
import os
print("no such symbol", flush=True)
os._exit(0)
"""


def prepare_release(root: Path, version: str, change: str, *, holds: str | None = None) -> None:
    """Prepare the environment of one release of "transformers".

    Args:
        holds: an installed package that it has, too.
    """
    folder = root / f"transformers-{version}"
    package = folder / "site" / "transformers"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_STAND_IN + dedent(change), encoding="utf-8")
    if holds is not None:
        spec = find_spec(holds)
        assert spec is not None
        assert spec.origin is not None
        (package.parent / holds).symlink_to(Path(spec.origin).parent)
    write_record(folder, "transformers", version, {"transformers": version})
