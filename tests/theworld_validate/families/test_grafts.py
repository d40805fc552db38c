"""Grafts pass with the allowances that say what is meant, and fail with one too few or one too many."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.families import grafts
from tests.theworld_validate.loaders.asking import Answer, ask
from theworld_validate.rendering.summary import verdict_line

TinyOf = Callable[[str], Path]
_LORA = (
    ("--allow", "wrapper"),
    ("--allow", "class:*.q_proj"),
    ("--allow-extra", "*lora_*"),
    ("--allow", "requires_grad"),
    ("--allow", "rng"),
)
_MERGED = (("--allow", "requires_grad"), ("--allow", "rng"))
_HELD = (("--prefix", "lm."), ("--allow", "rng"))


def put(folder: Path, candidate: object, options: tuple[tuple[str, str], ...]) -> Answer:
    named = f"{candidate.__module__}:{candidate.__name__}"  # type: ignore[attr-defined]
    return ask(folder, named, "--dtype", "float32", *(word for option in options for word in option))


@pytest.mark.parametrize(
    ("candidate", "options"),
    [(grafts.lora_zero, _LORA), (grafts.lora_off, _LORA), (grafts.lora_merged, _MERGED), (grafts.held, _HELD)],
)
def test_a_graft_passes_with_what_is_meant_and_fails_with_one_too_few(
    tiny_of: TinyOf, candidate: object, options: tuple[tuple[str, str], ...]
) -> None:
    folder = tiny_of("LlamaForCausalLM")
    answer = put(folder, candidate, options)
    assert (answer.exit_code, answer.roots) == (0, [])
    assert all(answer.checks[name].measurements["places"] for name in answer.checks if name.startswith("allowed."))
    assert f"allowed by {len(options)} allowances" in verdict_line(answer.report)
    if "allowed.extra" in answer.checks:  # the additions are listed
        assert "lora_A.default.weight" in answer.checks["allowed.extra"].findings[0].message
    fewer = put(folder, candidate, options[:-1])
    assert fewer.exit_code == 1
    assert fewer.failed == {"globals"}


def test_nothing_else_is_let_through_with_a_prefix(tiny_of: TinyOf) -> None:
    answer = put(tiny_of("LlamaForCausalLM"), grafts.held_in_training, _HELD)
    assert answer.exit_code == 1
    assert "modules.training" in str(answer.roots[0])


def test_an_allowance_that_nothing_used_is_a_finding(tiny_of: TinyOf) -> None:
    answer = put(tiny_of("LlamaForCausalLM"), grafts.load, (("--allow", "config.field:config.use_cache"),))
    assert answer.exit_code == 1
    assert answer.roots == ["allowance.unused@--allow config.field:config.use_cache"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--allow", "requires_gard"), "did you mean requires_grad?"),
        (("--allow", "config.field"), "--allow config.field needs the field"),
        (("--allow", "rng:"), "the pattern is empty"),
        (("--candidate", f"{grafts.__name__}:held", "--prefix", "body."), "has no module there"),
        ((), "name what loads your model with --candidate MODULE:NAME"),
    ],
)
def test_what_cannot_be_used_is_one_line(tiny_of: TinyOf, options: tuple[str, ...], says: str) -> None:
    assert_input_error(invoke("parity", "--model", tiny_of("LlamaForCausalLM"), *options), says)
