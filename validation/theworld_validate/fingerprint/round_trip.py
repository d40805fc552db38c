"""The round trip: what is left of a model after save_pretrained and from_pretrained.

In: a loaded model. Out: the section "round_trip": `written/KEY`, the keys of the files; `config/...`, `parameters/...`
and `buffers/...` of the model loaded again by its own class; and `base/parameters/...`, `base/buffers/...` of what the
base class makes of the same files. It is saved once; what raises is a `Failure`, and the rest goes on.
"""

import gc
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from theworld.checkpoints.safetensors_header import TORCH_DTYPE_NAMES, read_safetensors_header
from theworld_validate.documents.observations import Failure, Fingerprint, Section
from theworld_validate.fingerprint.failures import CannotAsk, describe_error, failure_of
from theworld_validate.fingerprint.scalars import clean_text
from theworld_validate.fingerprint.scratch import scratch_folder
from theworld_validate.fingerprint.state import fingerprint_state
from theworld_validate.fingerprint.tensor_parts import is_distributed
from theworld_validate.fingerprint.tree import iterate_parameters
from theworld_validate.subjects.targets import resolve_target
from theworld_validate.subjects.wrappers import Wrapped, unwrap
from theworld_validate.target import REFERENCE_TARGET

SECTION = "round_trip"
_OWN = ("config", "parameters", "buffers")
_BASE = ("parameters", "buffers")


def fingerprint_round_trip(model: Any, *, base_target: str = REFERENCE_TARGET) -> Fingerprint:
    """Save the model, read the files' keys, and load them with its own class and with the base class.

    Args:
        model: what a loader returned, or its `Wrapped`.
        base_target: the class that others will load the files with.

    Raises:
        CannotAsk: for a model in shards.
    """
    wrapped = unwrap(model)
    _refuse_shards(wrapped)
    return _RoundTrip(wrapped, base_target).take()


def _refuse_shards(wrapped: Wrapped) -> None:
    if any(is_distributed(parameter) for _, parameter in iterate_parameters(wrapped.model)):
        raise CannotAsk("a model in shards is saved by what sharded it: save it gathered, and compare what loads that")


def fingerprint_written(model: Any) -> Fingerprint:
    """See what keys and dtypes saving writes, without writing a tensor: for a class of transformers' own.

    Only the last step of `save_pretrained` is replaced, so every key goes through the class's own conversions. A
    model of any other class takes the whole round trip, and one in shards cannot be asked.
    """
    wrapped = unwrap(model)
    try:
        _refuse_shards(wrapped)
    except CannotAsk as error:
        return Fingerprint(sections={}, failures=(failure_of(error, SECTION),))
    if wrapped.adapter is not None or not type(wrapped.model).__module__.startswith("transformers."):
        return fingerprint_round_trip(wrapped)
    seen: Section = {}

    def see(tensors: Mapping[str, Any], *_file: Any, **_metadata: Any) -> None:
        for key, tensor in tensors.items():
            dtype = str(tensor.dtype).removeprefix("torch.")
            seen[f"written/{key}"] = {"dtype": dtype, "shape": str(list(tensor.shape))}

    from transformers import modeling_utils

    before = modeling_utils.safe_save_file
    modeling_utils.safe_save_file = see
    try:
        with tempfile.TemporaryDirectory(prefix="theworld-written-") as folder:
            wrapped.model.save_pretrained(folder)
    except Exception as error:
        failure = failure_of(error, SECTION)
        says = f"save_pretrained raises {failure.error}"
        return Fingerprint(sections={}, failures=(replace(failure, error=says),))
    finally:
        modeling_utils.safe_save_file = before
    return Fingerprint(sections={SECTION: dict(sorted(seen.items()))}, num_bytes={SECTION: 0})


class _RoundTrip:
    """One round trip: what was seen, and what raised."""

    def __init__(self, wrapped: Wrapped, base_target: str) -> None:
        self._wrapped, self._base_target = wrapped, base_target
        self._section: Section = {}
        self._failures: list[Failure] = []
        self._num_bytes = 0

    def take(self) -> Fingerprint:
        model = self._wrapped.model
        with scratch_folder(sum(p.numel() * p.element_size() for p in model.parameters())) as folder:
            if self._try("save_pretrained", lambda: self._save(folder)):
                self._try("reading the saved files", lambda: self._section.update(read_written(folder)))
                self._try("from_pretrained of its own class", lambda: self._load_again(folder))
                self._try(f"from_pretrained of {self._base_target}", lambda: self._load_with_base(folder))
        return Fingerprint(
            sections={SECTION: self._section},
            num_bytes={SECTION: self._num_bytes},
            failures=tuple(self._failures),
        )

    def _try(self, deed: str, do: Callable[[], object]) -> bool:
        try:
            do()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._fail(deed, error)
            return False
        return True

    def _fail(self, deed: str, error: BaseException) -> None:
        failure = failure_of(error, SECTION)
        self._failures.append(replace(failure, error=f"{deed} raises {describe_error(error)}"))

    def _save(self, folder: Path) -> None:
        """Save; a generation config that refuses to be saved is a failure by itself, and is saved unchecked."""
        saver = self._wrapped.adapter or self._wrapped.model
        generation_config = getattr(self._wrapped.model, "generation_config", None)
        try:
            saver.save_pretrained(folder)
        except Exception as error:
            if generation_config is None or not _refuses_to_be_saved(generation_config):
                raise
            self._fail("save_pretrained, checking the model's generation config,", error)
            with _unchecked(generation_config):
                saver.save_pretrained(folder)

    def _load_again(self, folder: Path) -> None:
        self._observe(self._load_own(folder), _OWN, "")

    def _load_own(self, folder: Path) -> Any:
        model, adapter = self._wrapped.model, self._wrapped.adapter
        if adapter is None:
            return _load(type(model), folder, model, **_off_switch(model))
        base = _load(type(model), Path(model.name_or_path), model, **_off_switch(model))
        return type(adapter).from_pretrained(base, str(folder), is_trainable=True)

    def _load_with_base(self, folder: Path) -> None:
        model = self._wrapped.model
        base_class: Any = resolve_target(self._base_target)
        if type(model) is base_class or self._wrapped.adapter is not None:
            # One load was both: of the class itself, or of the base with the adapter's files, as anybody loads them.
            own = {key: seen for key, seen in self._section.items() if key.startswith(tuple(f"{n}/" for n in _BASE))}
            self._section.update({f"base/{key}": seen for key, seen in own.items()})
            return
        if not isinstance(model.config, base_class.config_class):
            raise TypeError(
                f"the files are of model_type {model.config.model_type!r}, and {self._base_target} loads "
                f"{base_class.config_class.model_type!r}"
            )
        self._observe(_load(base_class, folder, model), _BASE, "base/")

    def _observe(self, loaded: Any, sections: tuple[str, ...], prefix: str) -> None:
        state = fingerprint_state(loaded, sections)
        for name in sections:
            for location, seen in state.sections.get(name, {}).items():
                self._section[f"{prefix}{name}/{location}"] = seen
        self._failures += [replace(failure, section=SECTION) for failure in state.failures]
        self._num_bytes += sum(state.num_bytes.values())
        del loaded
        gc.collect()  # before the next one is loaded beside the subject


def _load(load_class: Any, folder: Path, like: Any, **arguments: Any) -> Any:
    import torch

    if like.device.type not in ("cpu", "meta"):
        arguments["device_map"] = {"": str(like.device)}
    torch.manual_seed(0)
    return load_class.from_pretrained(str(folder), dtype=like.dtype, **arguments)


def _refuses_to_be_saved(generation_config: Any) -> bool:
    try:
        generation_config.validate(strict=True)
    except Exception:  # as save_pretrained asks it
        return True
    return False


@contextmanager
def _unchecked(generation_config: Any) -> Iterator[None]:
    """Have a generation config save whatever it holds, until the block ends."""
    its_class = type(generation_config)
    generation_config.__class__ = type(its_class.__name__, (its_class,), {"validate": lambda *_args, **_kwargs: None})
    try:
        yield
    finally:
        generation_config.__class__ = its_class


def _off_switch(model: Any) -> dict[str, Any]:
    from theworld.modeling_theworld import TheWorld

    return {"enable_world": False} if isinstance(model, TheWorld) and not model.enable_world else {}


def read_written(folder: Path) -> Section:
    """Each key of a saved folder's safetensors files, with its dtype and shape; a pickle is said, and not opened."""
    section: Section = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            for key, entry in read_safetensors_header(path).items():
                seen = {"dtype": TORCH_DTYPE_NAMES.get(entry.dtype, entry.dtype), "shape": str(list(entry.shape))}
                location = f"written/{clean_text(key)}"
                section[location if location not in section else f"{location} ({path.name})"] = dict(seen)
        elif path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
            section[f"written/{clean_text(path.name)}"] = {"dtype": "pickle", "shape": None}
    return section
