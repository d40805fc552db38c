"""The globals audit: theworld changes nothing, and a module that does is named with what it changes."""

import pytest

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.audits.global_state import check_globals, judge_stages
from theworld_validate.results import InputError, Status

RUDE = "tests.theworld_validate.audits.rude_module"


def test_theworld_changes_nothing_and_a_rude_module_is_named(tiny: SyntheticCheckpoint) -> None:
    ours, cosmos, rude = check_globals(str(tiny.gemma), str(tiny.cosmos), modules=[RUDE], dtype="float32")
    assert (ours.status, cosmos.status, rude.status) == (Status.PASSED, Status.PASSED, Status.FAILED)
    assert ours.measurements["stages"] == 4
    assert {finding.severity for finding in (*ours.findings, *cosmos.findings)} <= {"warning"}
    changed = {finding.location: finding for finding in rude.findings}
    assert set(changed) >= {
        "grad_enabled",
        "default_dtype",
        "float32_matmul_precision",
        "cuda_matmul_allow_tf32",
        "deterministic_algorithms",
        "cudnn_benchmark",
        "num_threads",
        "rng_state_cpu",
        "rng_state_python",
        "environment.RUDE",
    }
    assert changed["environment.RUDE"].severity == "warning"
    assert "secret" not in str(rude)
    assert changed["grad_enabled"].message == f"import {RUDE}: grad_enabled was True and is False"


def test_only_a_new_branch_may_draw_random_numbers() -> None:
    def stage(title: str) -> dict[str, object]:
        return {"stage": title, "changes": {"rng_state_cpu": ["a", "b"]}, "compared": 60}

    assert judge_stages("globals.x", [stage("load with the branch on")], seconds=0.0).status is Status.PASSED
    assert judge_stages("globals.x", [stage("load with the branch off")], seconds=0.0).status is Status.FAILED
    assert judge_stages("globals.x", [], seconds=0.0).status is Status.INCONCLUSIVE


def test_an_unknown_module_is_one_line(tiny: SyntheticCheckpoint) -> None:
    with pytest.raises(InputError, match=r"--import nowhere\.to_be: ModuleNotFoundError: No module named 'nowhere'"):
        check_globals(str(tiny.gemma), None, modules=["nowhere.to_be"])
