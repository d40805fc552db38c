"""Everything that is checked in a Gemma 3 or TheWorld folder before a model is built from it.

In: a folder. Out: the files that transformers will open and the config's values, or a `ValueError` of one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import is_regular_file, read_json_object
from theworld.checkpoints.checkpoint_files import check_safetensors_folder
from theworld.checkpoints.common_config_rules import check_quantization_packages
from theworld.checkpoints.error_text import file_error, summary
from theworld.checkpoints.field_rules import Table, check_table, flag, number, token_ids, whole
from theworld.checkpoints.tokenizer_files import check_tokenizer_files
from theworld.checkpoints.weight_files import WeightFiles
from theworld.configuration_theworld import TheWorldConfig

_LENGTH, _SHARE, _FACTOR = whole(0, 1 << 31), number(0, 1), number(0, 1e6)
_GENERATION: Table = {
    name: rule.or_null()
    for name, rule in {
        "bos_token_id": token_ids(several=True),
        "eos_token_id": token_ids(several=True),
        "pad_token_id": token_ids(),
        **dict.fromkeys(("do_sample", "use_cache"), flag()),
        **dict.fromkeys(("max_length", "max_new_tokens", "min_length", "min_new_tokens", "top_k"), _LENGTH),
        **dict.fromkeys(("num_beams", "num_return_sequences"), whole(1, 10_000)),
        **dict.fromkeys(("top_p", "min_p", "typical_p"), _SHARE),
        **dict.fromkeys(("temperature", "repetition_penalty"), _FACTOR),
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFolder:
    """A folder whose files are whole: what its loader opens, and its config as a TheWorld config's values."""

    weights: WeightFiles
    config_values: Mapping[str, Any]

    @property
    def is_quantised(self) -> bool:
        """Whether the checkpoint names a quantisation, whose keys only its own loader knows."""
        return self.config_values.get("quantization_config") is not None


def check_gemma3_folder(folder: Path, *, variant: str | None = None) -> CheckedFolder:
    """Check the files of a Gemma 3 or TheWorld checkpoint: weights, config, tokenizer, generation config.

    Keys are not compared with the model's: see `theworld.checkpoints.key_audit`.

    Raises:
        ValueError: with the file or field, and the fix.
    """
    weights = check_safetensors_folder(folder, variant=variant)
    values = TheWorldConfig.adopt(read_json_object(folder / "config.json"), source=str(folder))
    check_quantization_packages(values, where=f"{folder}/config.json")
    check_tokenizer_files(folder)
    check_generation_config(folder)
    return CheckedFolder(weights=weights, config_values=values)


def check_generation_config(folder: Path) -> None:
    """Check generation_config.json, where there is one: transformers would pass over a broken one without a word.

    Raises:
        ValueError: with the field.
    """
    from transformers import GenerationConfig

    path = folder / "generation_config.json"
    if not is_regular_file(path):
        return
    values = read_json_object(path)
    check_table(values, _GENERATION, where=str(path))
    try:
        GenerationConfig.from_dict(dict(values)).validate()
    except Exception as error:  # its arithmetic on a wrong type raises anything
        raise file_error(path, summary(error), "correct the field, or download the file again") from error
