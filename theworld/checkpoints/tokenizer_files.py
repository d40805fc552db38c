"""A checkpoint folder's tokenizer files, read strictly before a library reads them.

In: a folder. Out: nothing, or a `ValueError` that names the file and the fix.
"""

import json
from pathlib import Path
from typing import Any

from theworld.checkpoints.bounded_files import (
    MAX_TOKENIZER_BYTES,
    MAX_TOKENIZER_VALUES,
    check_num_values,
    is_folder,
    is_regular_file,
    read_json_object,
    read_text,
)
from theworld.checkpoints.error_text import file_error, one_line, summary

_CONFIG_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "processor_config.json",
    "preprocessor_config.json",
    "chat_template.json",
)
_AGAIN = "download or write it again"


def check_tokenizer_files(folder: Path) -> None:
    """Check the tokenizer's and the processor's JSON files that a folder has.

    Raises:
        ValueError: for one that is not what its name says.
    """
    for name in _CONFIG_FILES:
        if is_regular_file(folder / name):
            read_json_object(folder / name)
    path = folder / "tokenizer.json"
    if not is_regular_file(path):
        return
    text = read_text(path, max_bytes=MAX_TOKENIZER_BYTES)
    try:
        check_num_values(text, MAX_TOKENIZER_VALUES)
        tokenizer = json.loads(text)  # half a million merges: the strict reader's walk would take seconds
    except (ValueError, RecursionError) as error:
        raise file_error(path, f"not valid JSON ({summary(error)})", _AGAIN) from error
    if not isinstance(tokenizer, dict):
        raise file_error(path, f"holds a {type(tokenizer).__name__}, expected a JSON object", _AGAIN)
    model = tokenizer.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), (dict, list)):
        raise file_error(path, "field model.vocab is missing, so this is no tokenizer", _AGAIN)


def load_tokenizer(name_or_path: Any, **hub_arguments: Any) -> Any:
    """Load a checkpoint's tokenizer.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    folder = Path(str(name_or_path), hub_arguments.get("subfolder") or "")
    is_local = is_folder(folder)
    if is_local:
        check_tokenizer_files(folder)
    try:
        # Code of the checkpoint's own is not run, and nobody is asked whether it may be.
        return AutoTokenizer.from_pretrained(name_or_path, **{"trust_remote_code": False, **hub_arguments})
    except Exception as error:  # the tokenizers library raises a bare Exception
        if not is_local:
            raise ValueError(f"{one_line(name_or_path)}: its tokenizer cannot be loaded ({summary(error)})") from error
        raise file_error(folder / "tokenizer.json", f"cannot be loaded ({summary(error)})", _AGAIN) from error
