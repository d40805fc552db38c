"""A LoRA adapter's config, as PEFT writes it: what of it decides memory.

In: an adapter_config.json, its folder, or `lora:RANK`. Out: an `Adapter`, or an `InputError` that names the file, the
field and the fix. It is read as JSON; neither PEFT nor torch is imported.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.documents.reading import document_at, parse, read_json_object
from theworld_validate.results import InputError

FILE_NAME = "adapter_config.json"
ALL_LINEAR = "all-linear"
_SHORTHAND = re.compile(r"lora:(.*)", re.DOTALL)
_RANK = re.compile(r"[0-9]{1,9}")
_MAX_BYTES = 2**20
_MAX_RANK = 65_536
_BIASES = ("none", "all", "lora_only")
# Fields that change values, names or initial weights, and no size.
_WITHOUT_SIZE = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "lora_alpha",
    "lora_ga_config",
    "loftq_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
    "use_rslora",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """What a LoRA adapter adds to a model, and what of the model trains beside it; fields are named as PEFT's.

    Args:
        name: for people.
        r: the rank.
        target_modules: ends of modules' names, or one regular expression of whole names, or "all-linear"; None for
            PEFT's own of the model's family.
        exclude_modules: as `target_modules`, of what is left out.
        modules_to_save: modules that are copied and trained whole.
        lora_dropout: the share that is dropped of what goes into the adapter.
        bias: which biases train: "none", "all" or "lora_only".
        layers_to_transform: indices of layers; None for all.
        layers_pattern: names of the lists of layers.
        rank_pattern: (end or pattern of a name, its rank), of modules with another rank.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True}

    name: str
    r: int = 8
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    modules_to_save: tuple[str, ...] = ()
    lora_dropout: float = 0.0
    bias: str = "none"
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: tuple[tuple[str, int], ...] = ()

    @property
    def title(self) -> str:
        """For a row of a table."""
        shorthand = f"LoRA r={self.r}"
        return shorthand if _SHORTHAND.fullmatch(self.name) else f"{shorthand} ({self.name})"


def read_adapter(given: str, *, is_the_worlds: bool) -> Adapter:
    """Read an adapter's config.

    Args:
        given: the file, its folder, or `lora:RANK`, which is LoRA of all linear layers but the head; of TheWorld, of
            Gemma's, with the projection and the temporal embedding trained beside it.

    Raises:
        InputError: if there is no such file, or it is no LoRA config whose memory is known.
    """
    from theworld.checkpoints.error_text import one_line

    if (shorthand := _SHORTHAND.fullmatch(given)) is not None:
        rank = int(shorthand[1]) if _RANK.fullmatch(shorthand[1]) else 0
        if not 1 <= rank <= _MAX_RANK:
            raise InputError(
                f"--adapter {one_line(given, 80)}: of lora:RANK, a rank is a number from 1 to {_MAX_RANK:,}"
            )
        if not is_the_worlds:
            return Adapter(name=given, r=rank, target_modules=ALL_LINEAR)
        branch = ("world_projection", "temporal_embedding")
        return Adapter(
            name=given, r=rank, target_modules=ALL_LINEAR, exclude_modules=r".*\bworld_\w+.*", modules_to_save=branch
        )
    path = document_at(Path(given), FILE_NAME)
    try:
        values = read_json_object(path, max_bytes=_MAX_BYTES, max_values=100_000)
        return _adapter_of(values, source=one_line(path), name=_name_of(path))
    except InputError as error:
        raise InputError(f"--adapter {error}; give an {FILE_NAME}, its folder, or lora:RANK") from error


def _name_of(path: Path) -> str:
    from theworld.checkpoints.error_text import one_line

    stem = path.resolve().parent.name if path.name == FILE_NAME else path.stem
    return one_line(stem, 40)


def _adapter_of(values: dict[str, Any], *, source: str, name: str) -> Adapter:
    from theworld.checkpoints.error_text import shown_name

    if (kind := values.get("peft_type")) != "LORA":
        raise InputError(f"{source}: peft_type is {shown_name(kind)}, and memory is known of LORA")
    known = set(Adapter.__dataclass_fields__) - {"name"}
    for field, value in values.items():
        if field not in known | _WITHOUT_SIZE and value not in (None, False, {}, [], ""):
            raise InputError(f"{source}: field {shown_name(field)}: what it takes is not known; leave it out")
    given: dict[str, Any] = {field: values[field] for field in known if values.get(field) is not None}
    if isinstance(given.get("rank_pattern"), dict):
        given["rank_pattern"] = list(given["rank_pattern"].items())
    for field in ("layers_to_transform", "layers_pattern"):  # PEFT takes one without a list
        if field in given and not isinstance(given[field], list):
            given[field] = [given[field]]
    if isinstance(given.get("lora_dropout"), int) and not isinstance(given["lora_dropout"], bool):
        given["lora_dropout"] = float(given["lora_dropout"])
    adapter: Adapter = parse(_type_adapter(), {"name": name, **given}, source=source)
    ranks = (adapter.r, *(rank for _, rank in adapter.rank_pattern))
    if not all(1 <= rank <= _MAX_RANK for rank in ranks):
        raise InputError(f"{source}: field r: a rank is a number from 1 to {_MAX_RANK:,}")
    if not 0 <= adapter.lora_dropout < 1:
        raise InputError(f"{source}: field lora_dropout: a share is from 0 up to 1, and below it")
    if adapter.bias not in _BIASES:
        raise InputError(f"{source}: field bias is {shown_name(adapter.bias)}; there are {', '.join(_BIASES)}")
    return adapter


@cache
def _type_adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Adapter)
