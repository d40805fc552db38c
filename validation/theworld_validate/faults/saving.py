"""Faults of saving: the model is right in memory, and what save_pretrained writes of it is not."""

import json
from pathlib import Path
from typing import Any

import torch

from theworld_validate.compare.causes import Cause
from theworld_validate.faults.base import become, fault, rewrite_files, rewrite_saving
from theworld_validate.faults.needs import Need

State = dict[str, torch.Tensor]


@fault("round trip", "a key left out", "round_trip", r"layers\.2\.post_attention_layernorm", Cause.WRITTEN_KEYS)
def key_not_saved(model: Any) -> None:
    def without(state: State) -> State:
        return {name: tensor for name, tensor in state.items() if "layers.2.post_attention_layernorm" not in name}

    rewrite_saving(model, without)


@fault("round trip", "saved in another precision", "round_trip", r"parameters/", Cause.SAVING)
def saved_in_lower_precision(model: Any) -> None:
    def lowered(state: State) -> State:
        return {name: t.to(torch.float8_e4m3fn).to(t.dtype) if "mlp" in name else t for name, t in state.items()}

    rewrite_saving(model, lowered)


@fault("round trip", "saved twice as large", "round_trip", r"written/", Cause.WRITTEN_DTYPE, needs=(Need.COMES_BACK,))
def saved_in_higher_precision(model: Any) -> None:
    wider = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float64}

    def widened(state: State) -> State:
        made: dict[int, torch.Tensor] = {}  # a tied table stays one
        return {
            name: made.setdefault(tensor.data_ptr(), tensor.to(wider.get(tensor.dtype, tensor.dtype)))
            for name, tensor in state.items()
        }

    rewrite_saving(model, widened)


@fault("round trip", "transformers #48972, verl #6334", "round_trip", r"written/.*lm_head", Cause.WRITTEN_KEYS)
def tied_head_saved_twice(model: Any) -> None:
    def gathered(state: State) -> State:
        copies = {name: tensor.detach().clone() for name, tensor in state.items()}
        copies["lm_head.weight"][7] *= 1.0078125  # rounded on the way: the two tables are no longer one
        return copies

    rewrite_saving(model, gathered)


@fault("round trip", "transformers #46650, #45357", "round_trip", r"written/.*layers\.", Cause.WRITTEN_KEYS)
def other_keys_on_disk(model: Any) -> None:
    def rename(folder: Path, old: str, new: str) -> None:
        rewrite_files(folder, lambda state: {name.replace(old, new): tensor for name, tensor in state.items()})

    original = type(model)

    class OddKeys(original):
        """Writes other keys, which its own loader maps back."""

        def save_pretrained(self, directory: Any, *args: Any, **kwargs: Any) -> None:
            super().save_pretrained(directory, *args, **kwargs)
            rename(Path(directory), "layers.", "layers.layers.")

        @classmethod
        def from_pretrained(cls, directory: Any, *args: Any, **kwargs: Any) -> Any:
            rename(Path(directory), "layers.layers.", "layers.")
            loaded = super().from_pretrained(directory, *args, **kwargs)
            rename(Path(directory), "layers.", "layers.layers.")
            return loaded

    become(model, OddKeys)


@fault(
    "round trip",
    "generation config not saved",
    "round_trip",
    r"generation_config",
    Cause.SAVING,
    needs=(Need.GENERATION, Need.COMES_BACK),
)
def generation_config_not_saved(model: Any) -> None:
    original = type(model)

    class Forgetting(original):
        def save_pretrained(self, directory: Any, *args: Any, **kwargs: Any) -> None:
            super().save_pretrained(directory, *args, **kwargs)
            Path(directory, "generation_config.json").unlink()

    become(model, Forgetting)


@fault("round trip", "a config field not saved", "round_trip", r"config/.*softcapping", Cause.SAVING)
def config_field_not_saved(model: Any) -> None:
    original = type(model)

    class Rounding(original):
        def save_pretrained(self, directory: Any, *args: Any, **kwargs: Any) -> None:
            super().save_pretrained(directory, *args, **kwargs)
            path = Path(directory, "config.json")
            config = json.loads(path.read_text(encoding="utf-8"))
            config["text_config"]["final_logit_softcapping"] = 30.0
            path.write_text(json.dumps(config), encoding="utf-8")

    become(model, Rounding)
