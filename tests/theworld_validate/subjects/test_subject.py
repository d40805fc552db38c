"""Loading: what a loader is called with, and what becomes of each thing that can go wrong in it."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.theworld_validate.subjects import loaders
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.results import InputError
from theworld_validate.subjects.subject import Subject, SubjectError
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET

HERE = loaders.__name__


def load(name: str, checkpoint: object) -> object:
    return Subject(target=name if ":" in name else f"{HERE}:{name}", checkpoint=str(checkpoint)).load()


@pytest.mark.parametrize("target", [REFERENCE_TARGET, CANDIDATE_TARGET, f"{HERE}:old_dtype_word"])
def test_a_loader_gets_the_dtype(tiny: SyntheticCheckpoint, target: str) -> None:
    model = Subject(target=target, checkpoint=str(tiny.gemma), dtype="float32").load()
    assert model.dtype == torch.float32


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("path_only", "path_only(folder: str) -> Any cannot load: loaders are called with (checkpoint, dtype=...)"),
        ("NoLoader", "is a class without from_pretrained"),
        ("a_number", "is no function, but of type int"),
        ("nothing_here", "has no 'nothing_here'"),
        ("returns_none", "returned None; a loader returns the model"),
        ("returns_number", "returned an int; a loader returns the model"),
        ("raises_value_error", "no such variant \\ud800"),
        ("no_such_module:x", "no module 'no_such_module'; install it"),
        ("..:x", "is not of the form module:Class"),
        (".theworld:TheWorld", "is not of the form module:Class"),
        ("theworld:TheWorld\n::error::", "is not of the form module:Class"),
        ("os:path", "is a module"),
        ("os:system", "loaders are called with (checkpoint, dtype=...)"),
        ("builtins:exit", "loaders are called with"),
        ("builtins:print", "loaders are called with"),
        ("builtins:object", "is a class without from_pretrained"),
        ("posix:abort", "loaders are called with"),
        ("theworld:__doc__", "is no function, but of type str"),
    ],
)
def test_what_cannot_load_is_said_in_one_line(tiny: SyntheticCheckpoint, target: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load(target, tiny.gemma)
    line = str(caught.value)
    assert said in line
    assert line.isprintable()
    assert line.count(str(tiny.gemma)) <= 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def (", "SyntaxError"),
        ("raise ImportError('needs x')", "ImportError: needs x"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("this", "NameError"),
        ("def __getattr__(name): raise RuntimeError('lazy')", "RuntimeError: lazy when asked for 'load'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: SyntheticCheckpoint, code: str, said: str
) -> None:
    (tmp_path / "broken_module.py").write_text(f"{code}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_module", raising=False)
    with pytest.raises(InputError) as caught:
        load("broken_module:load", tiny.gemma)
    assert str(caught.value).startswith("broken_module:load: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("raises_without_a_traceback", "raises RuntimeError while loading: boom"),
        ("raises_runtime_error", "raises RuntimeError while loading: boom ::error::\\x1b[31m"),
        ("raises_stop_iteration", "raises StopIteration while loading"),
        ("raises_generator_exit", "raises GeneratorExit while loading"),
        ("raises_base_exception", "raises OddError while loading: odd"),
        ("raises_mute", "raises MuteError while loading: MuteError"),
    ],
)
def test_what_a_loader_raises_is_its_own_error(
    tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    monkeypatch.setattr(sys, "tracebacklimit", 1_000, raising=False)  # a loader may set it
    with pytest.raises(SubjectError) as caught:
        load(target, tiny.gemma)
    line, place, code = caught.value.told
    assert said in line
    assert line.isprintable()
    assert place is not None
    assert place.startswith(loaders.__file__)
    assert code is not None
    assert code.startswith("raise ")


def test_an_interrupt_is_no_error_of_the_loader(tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: str, **arguments: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(loaders, "returns_none", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("returns_none", tiny.gemma)


def test_the_reference_is_right_so_the_checkpoint_is_not(gemma_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Gemma3ForConditionalGeneration

    def fail(*inputs: object, **arguments: object) -> object:
        raise KeyError("evil")

    monkeypatch.setattr(Gemma3ForConditionalGeneration, "from_pretrained", fail)
    with pytest.raises(InputError, match=r"cannot load .*: KeyError: 'evil'"):
        load(REFERENCE_TARGET, gemma_copy)


def test_the_folder_is_named_once(gemma_copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    shard = sorted(gemma_copy.glob("*.safetensors"))[-1]
    state = load_file(shard)
    state.pop(next(iter(state)))
    save_file(state, shard, metadata={"format": "pt"})
    with pytest.raises(InputError, match="missing key") as caught:
        load(CANDIDATE_TARGET, gemma_copy)
    assert str(caught.value).count(str(gemma_copy)) == 1


def test_a_deleted_working_directory_is_no_matter(
    tmp_path: Path, tiny: SyntheticCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    shutil.rmtree(gone)
    assert isinstance(load(REFERENCE_TARGET, tiny.gemma), torch.nn.Module)
    with pytest.raises(InputError, match="the working directory was deleted"):
        load(REFERENCE_TARGET, "gemma")
    os.chdir(tmp_path)


def test_a_record_says_how_it_was_loaded() -> None:
    subject = Subject(target="a:b", checkpoint="c", dtype="float32", device="cuda", attn="eager", seed=3)
    record = subject.record("candidate")
    assert (record.role, record.target, record.checkpoint, record.dtype) == ("candidate", "a:b", "c", "float32")
    assert (record.device, record.attn, record.seed, record.checkpoint_digest) == ("cuda", "eager", 3, None)
