"""Loaders as people write them: right ones, wrappers, and mistakes that somebody reported in public."""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageTextToText, Gemma3ForCausalLM, Gemma3ForConditionalGeneration

HERE = __name__


def target(loader: Callable[..., Any] | type) -> str:
    """The name that a command would be given."""
    return f"{HERE}:{loader.__name__}"


def resharded(folder: str, **arguments: Any) -> Any:
    with tempfile.TemporaryDirectory() as copy:
        Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments).save_pretrained(
            copy, max_shard_size="600KB"
        )
        return Gemma3ForConditionalGeneration.from_pretrained(copy, **arguments)


def old_dtype_word(folder: str, dtype: Any = None, **arguments: Any) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(folder, torch_dtype=dtype, **arguments)


def low_cpu(folder: str, **arguments: Any) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(folder, low_cpu_mem_usage=True, **arguments)


def device_map_cpu(folder: str, **arguments: Any) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(folder, device_map={"": "cpu"}, **arguments)


def auto(folder: str, **arguments: Any) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, **arguments)


def auto_dtype(folder: str, dtype: Any = None, **arguments: Any) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(folder, dtype="auto", **arguments)


def cast_from_float32(folder: str, dtype: Any = None, **arguments: Any) -> Any:
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, **arguments)
    return model.to(dtype)


def _with_adapter(model: Any, std: float = 0.0) -> Any:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings(action="ignore"):  # PEFT asks transformers under a name that will go
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in adapted.named_parameters():
        if std and "lora_B" in name:
            nn.init.normal_(parameter, std=std)
    return adapted


def peft_fresh(folder: str, **arguments: Any) -> Any:
    return _with_adapter(Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments))


def peft_trained(folder: str, **arguments: Any) -> Any:
    return _with_adapter(Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments), 0.02)


def peft_merged(folder: str, **arguments: Any) -> Any:
    return peft_fresh(folder, **arguments).merge_and_unload()


def peft_merged_trained(folder: str, **arguments: Any) -> Any:
    return peft_trained(folder, **arguments).merge_and_unload()


def compiled_outside(folder: str, **arguments: Any) -> Any:
    return torch.compile(Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments), backend="aot_eager")


def compiled_in_place(folder: str, **arguments: Any) -> Any:
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments)
    model.compile(backend="aot_eager")
    return model


def offloaded(folder: str, **arguments: Any) -> Any:
    places = {
        "model.vision_tower": "cpu",
        "model.multi_modal_projector": "cpu",
        "model.language_model": "disk",
        "lm_head": "disk",
    }
    return Gemma3ForConditionalGeneration.from_pretrained(
        folder, device_map=places, offload_folder=tempfile.mkdtemp(), **arguments
    )


def causal_only(folder: str, **arguments: Any) -> Any:
    return Gemma3ForCausalLM.from_pretrained(folder, **arguments)


def wrapped(folder: str, **arguments: Any) -> Any:
    return nn.DataParallel(Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments))


class Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Any, **arguments: Any) -> Any:
        return self.inner(*inputs, **arguments)


def holder(folder: str, **arguments: Any) -> Any:
    return Holder(Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments))


def returns_pair(folder: str, **arguments: Any) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(folder, output_loading_info=True, **arguments)


def unsavable(folder: str, **arguments: Any) -> Any:
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments)
    model.generation_config.do_sample = False
    return model


class GatheredAndDrifted(Gemma3ForConditionalGeneration):
    """A sharded trainer gathers unshared copies and rounds the head's: the saved tie is gone (verl #6334)."""

    def save_pretrained(self, save_directory: Any, *inputs: Any, **arguments: Any) -> None:
        state = {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}
        state["lm_head.weight"][7] *= 1.0078125
        super().save_pretrained(save_directory, *inputs, **{**arguments, "state_dict": state})


def merged_head(folder: str, **arguments: Any) -> Any:
    """An adapter gave the head a table of its own and trained it; the config still says tied (transformers #45127)."""
    model: Any = Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.lm_head.weight[5] += 0.25
    return model


def _rename(folder: Path, old: str, new: str) -> None:
    for path in folder.glob("*.safetensors"):
        state = {key.replace(old, new): tensor for key, tensor in load_file(path).items()}
        save_file(state, path, metadata={"format": "pt"})
    for path in folder.glob("*.index.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


class OddKeys(Gemma3ForConditionalGeneration):
    """Saves under key names of its own, which its own loader maps back (transformers #46650)."""

    def save_pretrained(self, save_directory: Any, *inputs: Any, **arguments: Any) -> None:
        super().save_pretrained(save_directory, *inputs, **arguments)
        _rename(Path(save_directory), "layers.", "layers.layers.")

    @classmethod
    def from_pretrained(cls, folder: Any, *inputs: Any, **arguments: Any) -> Any:
        import shutil

        with tempfile.TemporaryDirectory() as parent:
            copy = shutil.copytree(folder, Path(parent, "copy"))
            _rename(copy, "layers.layers.", "layers.")
            return super().from_pretrained(copy, *inputs, **arguments)


def norms_in_float32(folder: str, **arguments: Any) -> Any:
    """Preparing for adapter training casts one-dimensional weights to float32 (peft #816)."""
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments)
    for name, parameter in model.named_parameters():
        if "language_model" in name and "norm" in name:
            parameter.data = parameter.data.to(torch.float32)
    return model


def tower_through_int8(folder: str, **arguments: Any) -> Any:
    """The vision tower was quantised though it was to be spared (transformers #45674)."""
    model: Any = Gemma3ForConditionalGeneration.from_pretrained(folder, **arguments)
    for module in model.model.vision_tower.modules():
        if isinstance(module, nn.Linear):
            scale = module.weight.detach().abs().amax(1, keepdim=True).float() / 127
            module.weight.data = ((module.weight.detach().float() / scale).round() * scale).to(module.weight.dtype)
    return model


def path_only(folder: str) -> Any:
    return Gemma3ForConditionalGeneration.from_pretrained(folder)


def returns_none(folder: str, **arguments: Any) -> None:
    return None


def returns_number(folder: str, **arguments: Any) -> int:
    return 5


class OddError(BaseException):
    """As pytest's and trio's own are: no `Exception`."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("an exception that cannot be written")


def raises_runtime_error(folder: str, **arguments: Any) -> Any:
    raise RuntimeError("boom\n::error::\x1b[31m")


def raises_without_a_traceback(folder: str, **arguments: Any) -> Any:
    sys.tracebacklimit = 0
    raise RuntimeError("boom")


def raises_stop_iteration(folder: str, **arguments: Any) -> Any:
    raise StopIteration


def raises_generator_exit(folder: str, **arguments: Any) -> Any:
    raise GeneratorExit


def raises_base_exception(folder: str, **arguments: Any) -> Any:
    raise OddError("odd")


def raises_mute(folder: str, **arguments: Any) -> Any:
    raise MuteError


def raises_value_error(folder: str, **arguments: Any) -> Any:
    raise ValueError("no such\nvariant \ud800")


class NoLoader:
    pass


a_number = 5
