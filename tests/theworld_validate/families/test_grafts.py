"""Grafts pass with the allowances that say what is meant, and fail with one too few or one too many.

Each graft is loaded and observed once; what is allowed is judged on that, as `parity` judges it. One goes through the
command.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.families import grafts
from tests.theworld_validate.loaders.asking import Answer, ask
from theworld_validate.parity.allowances import EXTRA, PREFIX, Allowance, allow, parse_allowance
from theworld_validate.parity.jobs import observe_job, side_of
from theworld_validate.parity.judge import Comparison, judge
from theworld_validate.parity.planning import plan_parity
from theworld_validate.rendering.summary import verdict_line
from theworld_validate.results import CheckResult, Finding, Status
from theworld_validate.subjects.subject import Subject
from theworld_validate.workers.run import Run

TinyOf = Callable[[str], Path]
Options = tuple[tuple[str, str], ...]
_LORA: Options = (
    ("--allow", "wrapper"),
    ("--allow", "class:*.q_proj"),
    ("--allow-extra", "*lora_*"),
    ("--allow", "requires_grad"),
    ("--allow", "rng"),
)
_MERGED: Options = (("--allow", "requires_grad"), ("--allow", "rng"))
_HELD: Options = (("--prefix", "lm."), ("--allow", "rng"))
_MEANT = {"lora_zero": _LORA, "lora_off": _LORA, "lora_merged": _MERGED, "held": _HELD, "held_in_training": _HELD}


def put(folder: Path, candidate: object, options: Options) -> Answer:
    named = f"{candidate.__module__}:{candidate.__name__}"  # type: ignore[attr-defined]
    return ask(folder, named, "--dtype", "float32", *(word for option in options for word in option))


@pytest.fixture(scope="module")
def observed(tiny_of: TinyOf) -> dict[str, Comparison]:
    """Each graft beside the reference, asked and saved in a worker of its own."""
    run = Run()
    reference = Subject(
        target="transformers:LlamaForCausalLM", checkpoint=str(tiny_of("LlamaForCausalLM")), dtype="float32"
    )
    agreed = plan_parity(reference, run, ("text",))
    jobs = [observe_job("reference", reference, agreed.plan, control=False, round_trip="written")]
    for name, options in _MEANT.items():
        graft = replace(reference, target=f"{grafts.__name__}:{name}", prefix=dict(options).get("--prefix"))
        jobs.append(observe_job(name, graft, agreed.plan, control=False))
    seen, *outcomes = run.do([replace(job, threads=1) for job in jobs], at_once=2)
    found = {}
    for name, outcome in zip(_MEANT, outcomes, strict=True):
        assert outcome.is_whole
        found[name] = Comparison(
            plan=agreed.plan, reference=side_of(seen), candidate=side_of(outcome), files=agreed.files
        )
    return found


def judged(comparison: Comparison, options: Options) -> dict[str, CheckResult]:
    kinds = {"--allow-extra": EXTRA, "--prefix": PREFIX}
    allowances = [
        Allowance(kind=kinds[option], pattern=word) if option in kinds else parse_allowance(word)
        for option, word in options
    ]
    comparison, allowed = allow(comparison, allowances)
    return {check.id.removeprefix("parity."): check for check in (*allowed, *judge(comparison))}


def failed(checks: dict[str, CheckResult]) -> dict[str, tuple[Finding, ...]]:
    return {name: check.findings for name, check in checks.items() if check.status is not Status.PASSED}


@pytest.mark.parametrize("name", ["lora_zero", "lora_off", "lora_merged", "held"])
def test_a_graft_passes_with_what_is_meant_and_fails_with_any_one_less(
    observed: dict[str, Comparison], name: str
) -> None:
    meant = _MEANT[name]
    checks = judged(observed[name], meant)
    assert failed(checks) == {}
    used = [check.measurements["places"] for key, check in checks.items() if key.startswith("allowed.")]
    assert len(used) == len(meant)
    assert all(used)
    for left_out in meant:
        if left_out[0] != "--prefix":  # without it the loader itself is refused, below
            fewer = failed(judged(observed[name], tuple(option for option in meant if option != left_out)))
            assert fewer, left_out
    assert set(failed(judged(observed[name], meant[:-1]))) == {"globals"}


def test_the_command_counts_what_was_allowed_and_lists_what_was_added(tiny_of: TinyOf) -> None:
    answer = put(tiny_of("LlamaForCausalLM"), grafts.lora_zero, _LORA)
    assert (answer.exit_code, answer.roots) == (0, [])
    assert f"allowed by {len(_LORA)} allowances" in verdict_line(answer.report)
    assert "lora_A.default.weight" in answer.checks["allowed.extra"].findings[0].message


def test_nothing_else_is_let_through_with_a_prefix(observed: dict[str, Comparison]) -> None:
    codes = {
        finding.code
        for findings in failed(judged(observed["held_in_training"], _HELD)).values()
        for finding in findings
    }
    assert "modules.training" in codes


def test_an_allowance_that_nothing_used_is_a_finding(observed: dict[str, Comparison]) -> None:
    unused = ("--allow", "config.field:config.use_cache")
    (finding,) = failed(judged(observed["held"], (*_HELD, unused)))["allowed.config.field"]
    assert finding.key == f"allowance.unused@{' '.join(unused)}"


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
