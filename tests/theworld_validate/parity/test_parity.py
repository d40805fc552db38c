"""Parity: passes on what is equal, and names what is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.compare.explain import contradictions
from theworld_validate.faults.base import rewrite_files
from theworld_validate.parity.allowances import Allowance, parse_allowance
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.check import check_parity
from theworld_validate.parity.jobs import observe_job, side_of
from theworld_validate.parity.judge import Comparison, judge
from theworld_validate.parity.planning import plan_parity
from theworld_validate.results import TENSORS_FILE, CheckResult, Finding, InputError, Status, combine
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET
from theworld_validate.workers.run import Run

FAULTY = "tests.theworld_validate.faulty_candidates:"
Checks = dict[str, CheckResult]


def compare(
    tiny: SyntheticCheckpoint,
    candidate: str = CANDIDATE_TARGET,
    *,
    reference: str = REFERENCE_TARGET,
    probes: tuple[str, ...] = ("text",),
    run: Run | None = None,
    allowances: tuple[Allowance, ...] = (),
    **loading: Any,
) -> Checks:
    """Each side in a worker of its own; the checks in the order in which they came."""
    checkpoint = str(tiny.gemma)
    checks = check_parity(
        Subject(target=reference, checkpoint=checkpoint, **loading),
        Subject(target=candidate, checkpoint=checkpoint, **loading),
        run=run or Run(),
        probe_names=probes,
        allowances=allowances,
    )
    return {check.id: check for check in checks}


def findings(checks: Checks) -> dict[str, Finding]:
    """The first finding of each code."""
    found: dict[str, Finding] = {}
    for check in checks.values():
        for finding in check.findings:
            found.setdefault(finding.code, finding)
    return found


def first_root(checks: Checks) -> Finding:
    """The likeliest root cause: the first check has it."""
    roots = [finding for finding in next(iter(checks.values())).findings if finding.explained_by is None]
    return roots[0]


@pytest.fixture(autouse=True)
def _global_state_is_left_as_it_was() -> Iterator[None]:
    before = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()
    rng_state = torch.get_rng_state()
    yield
    assert (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()) == before
    assert torch.equal(torch.get_rng_state(), rng_state)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_branch_switched_off_is_gemma(tiny: SyntheticCheckpoint, dtype: str) -> None:
    """On every probe; and as many steps are taken as were announced."""
    steps: list[str] = []
    announced: list[int] = []
    run = Run(progress=steps.append, expect=announced.append)
    checks = compare(tiny, dtype=dtype, probes=(), run=run)
    assert {check.status for check in checks.values()} == {Status.PASSED}
    assert not findings(checks)
    assert len(steps) == sum(announced) + 1  # the first is the plan's
    assert run.plan is not None
    generations = {}
    for name in run.plan.probes:
        measured = checks[f"parity.probe.{name}"].measurements
        assert measured["module_outputs_compared"] > 100
        assert measured["outputs_compared"] >= 18  # logits, loss, and keys and values of 8 layers
        generations[name] = measured["generations_compared"]
    assert generations == {
        "text": 19,
        "image": 12,
        "two_images": 9,
        "left_padded_batch": 9,
        "right_padded_batch": 0,
        "beyond_window": 9,
        "cached_decode": 0,
    }
    assert checks["parity.parameters"].measurements["compared_bytes"] > 1_000_000
    assert {record.role: record.target for record in run.subjects} == {
        "reference": REFERENCE_TARGET,
        "candidate": CANDIDATE_TARGET,
    }
    assert len({record.checkpoint_digest for record in run.subjects} - {None}) == 1


def test_a_plain_subclass_passes(tiny: SyntheticCheckpoint) -> None:
    """The Gemma class is saved under other keys when it is subclassed, and the base class reads them all the same."""
    checks = compare(tiny, FAULTY + "PlainSubclass", probes=("image",))
    assert {check.status for check in checks.values()} == {Status.PASSED}
    assert {finding.severity for check in checks.values() for finding in check.findings} == {"warning"}
    seconds = {name: check.seconds for name, check in checks.items()}
    assert min(seconds.values()) > 0  # of what workers timed
    apart = ("parity.files", "parity.control", "parity.gradients", "parity.probe.image", "parity.round_trip")
    assert len({seconds[name] for name in apart}) == len(apart)  # no equal shares


FAULTS = {
    "inv_freq_in_bfloat16": ("buffers.dtype", "model.language_model.rotary_emb.full_attention_inv_freq"),
    "last_bit_flipped": ("parameters.digest", "model.language_model.layers.3.mlp.down_proj.weight"),
    "train_mode": ("modules.training", "(model)"),
    "draws_while_loading": ("globals.value", "rng_state_cpu"),
    "extra_parameter": ("parameters.extra", "world_projection.weight"),
    "leftover_hook": ("modules.hooks", "model.language_model.layers.2"),
    "untied_head": ("parameters.tied_to", "lm_head.weight"),
    "longer_window": ("config.value", "config.text_config.sliding_window"),
}


@pytest.fixture(scope="module")
def faulty(tiny: SyntheticCheckpoint) -> dict[str, Checks]:
    """Every planted fault, judged: the reference is observed once, and each candidate in a worker of its own."""
    reference = Subject(target=REFERENCE_TARGET, checkpoint=str(tiny.gemma))
    run = Run()
    agreed = plan_parity(reference, run, ("text",))
    loaders = [reference, *(Subject(target=FAULTY + fault, checkpoint=str(tiny.gemma)) for fault in FAULTS)]
    jobs = [observe_job("x", loader, agreed.plan, control=False) for loader in loaders]
    expected, *sides = [side_of(outcome) for outcome in run.do(jobs, at_once=2)]
    judged = {}
    for fault, side in zip(FAULTS, sides, strict=True):
        comparison = Comparison(plan=agreed.plan, reference=expected, candidate=side, files=agreed.files)
        checks = explain_checks(list(judge(comparison)), gather_evidence(comparison, {}))
        judged[fault] = {check.id: check for check in checks}
    return judged


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_and_named(faulty: dict[str, Checks], fault: str) -> None:
    checks, (code, location) = faulty[fault], FAULTS[fault]
    assert combine([check.status for check in checks.values()]) is Status.FAILED
    found = findings(checks)[code]
    assert found.location == location
    root = first_root(checks)
    assert found.explained_by in (None, root.key)
    assert root.cause
    assert root.remedy
    assert found.explained_by is not None or found == root
    assert contradictions([finding for check in checks.values() for finding in check.findings]) == ()


def test_what_only_follows_says_so(faulty: dict[str, Checks]) -> None:
    """The added parameter is the added module's, and so are its random draws and what saving makes of it."""
    root = first_root(faulty["extra_parameter"])
    assert (root.code, root.location) == ("modules.extra", "world_projection")
    followers = [f for check in faulty["extra_parameter"].values() for f in check.findings if f is not root]
    assert {finding.explained_by for finding in followers} == {root.key}
    assert {finding.code for finding in followers} >= {"parameters.extra", "globals.value", "round_trip.missing"}


def test_eager_against_sdpa_fails_at_the_attention_layer(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, FAULTY + "eager_attention", probes=("image",))
    root = first_root(checks)
    assert root.code == "modules.attn_implementation"
    assert (root.cause or "").startswith("attention implementation: ")
    first = checks["parity.probe.image"].findings[0]
    assert first.code == "trace.digest"
    assert "vision_tower" in first.location
    assert "self_attn" in first.location
    assert first.explained_by == root.key


def test_a_disabled_peft_adapter_answers_alike_and_is_seen(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, FAULTY + "peft_with_adapter_disabled", probes=("image",))
    found = findings(checks)
    assert "q_proj." in found["parameters.extra"].location
    assert str(found["modules.class"].actual).startswith("peft.")
    assert (first_root(checks).cause or "").startswith("adapter: ")
    assert checks["parity.probe.image"].measurements["differing_outputs"] == 0
    assert {finding.explained_by for check in checks.values() for finding in check.findings} == {
        None,
        first_root(checks).key,
    }


def test_the_cause_is_measured(tiny: SyntheticCheckpoint) -> None:
    """A wrong buffer changes outputs; the trace says where first, and the second look how much."""
    run = Run(keeps_tensors=True)
    checks = compare(tiny, FAULTY + "inv_freq_in_bfloat16", run=run)
    root = first_root(checks)
    assert next(iter(checks)) == "parity.buffers"
    assert (root.code, root.actual) == ("buffers.dtype", "bfloat16")
    assert (root.cause or "").startswith("buffer dtype: ")
    probe = checks["parity.probe.text"]
    trace = findings(checks)["trace.digest"]
    assert trace.explained_by == root.key
    # The layer types are a set: which of the two comes first differs from process to process.
    assert trace.location.startswith("text/model.language_model.rotary_emb(")
    measured = probe.measurements
    assert measured["differing_outputs"] > 0
    assert measured["divergence_place"] == trace.location
    assert measured["divergence_inputs_equal"] is True
    assert 0 < measured["divergence_differing_share"] < 1
    assert measured["divergence_max_abs_difference"] > 0
    assert len(measured["divergence_spread"]) == 8
    assert not [name for name in checks["parity.buffers"].measurements if name.startswith("divergence_")]
    tensors = load_file(run.scratch() / measured["divergence_tensors_file"])
    assert measured["divergence_tensors_file"] == TENSORS_FILE
    assert float((tensors["reference"] - tensors["candidate"]).abs().max()) == measured["divergence_max_abs_difference"]
    run.close()


def test_a_reference_that_differs_from_itself_is_inconclusive(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, reference=FAULTY + "other_seed_for_each_call")
    assert checks["parity.control"].status is Status.INCONCLUSIVE
    assert checks["parity.probe.text"].status is Status.INCONCLUSIVE
    assert "not deterministic" in (checks["parity.control"].findings[0].cause or "")


def test_gradients_that_differ_from_themselves_are_inconclusive(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, reference=FAULTY + "random_gradients", probes=("image",))
    assert checks["parity.control"].status is Status.INCONCLUSIVE
    assert checks["parity.gradients"].status is Status.INCONCLUSIVE
    assert checks["parity.probe.image"].status is Status.PASSED


def test_two_loads_of_a_candidate_must_be_equal(gemma_copy: Path) -> None:
    """Two workers load it: whichever was first, the other has another weight."""
    checks = compare(SyntheticCheckpoint(gemma=gemma_copy, cosmos=gemma_copy), FAULTY + "changed_by_a_later_load")
    check = checks["parity.loads"]
    assert check.status is Status.FAILED
    (finding,) = check.findings
    assert (finding.code, finding.location) == (
        "parameters.loads_differ",
        "model.language_model.layers.2.mlp.down_proj.weight",
    )
    assert checks["parity.round_trip"].status is Status.PASSED


def test_what_is_allowed_may_differ_between_two_loads(tiny: SyntheticCheckpoint) -> None:
    allowances = (parse_allowance("attribute:made_by"),)
    checks = compare(tiny, FAULTY + "named_after_its_process", allowances=allowances, dtype="float32")
    assert {name for name, check in checks.items() if check.status is not Status.PASSED} == set()
    assert "parity.loads" not in checks
    assert checks["parity.allowed.attribute"].measurements["places"] == 1


def test_a_candidate_that_raises_fails(tiny: SyntheticCheckpoint) -> None:
    """In a forward pass: that costs the probe, and the rest is judged."""
    checks = compare(tiny, FAULTY + "raises")
    assert checks["parity.probe.text"].status is Status.FAILED
    assert {finding.field for finding in checks["parity.probe.text"].findings} == {"raised"}
    finding = findings(checks)["trace.raised"]
    assert finding.message == "text, trace: the candidate raises IndexError: no such layer"
    assert "faulty_candidates.py:" in str(finding.actual)
    assert checks["parity.parameters"].status is Status.PASSED
    assert checks["parity.round_trip"].status is Status.PASSED


def test_a_candidate_that_cannot_be_loaded_fails_and_nothing_else_is_said_of_it(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, FAULTY + "not_a_model")
    assert next(iter(checks)) == "parity.candidate"
    (finding,) = checks["parity.candidate"].findings
    assert finding.message == "the candidate raises RuntimeError: kaboom\\nsecond line (at: loading)"
    assert "faulty_candidates.py:" in finding.location
    assert {name for name, check in checks.items() if check.status is Status.PASSED} == {
        "parity.control",
        "parity.files",
    }
    others = {name: check for name, check in checks.items() if check.status is Status.INCONCLUSIVE}
    assert set(others) == set(checks) - {"parity.candidate", "parity.control", "parity.files"}
    assert not findings(others)


def test_a_reference_that_raises_is_inconclusive(tiny: SyntheticCheckpoint) -> None:
    checks = compare(tiny, reference=FAULTY + "not_a_model")
    assert checks["parity.reference"].status is Status.INCONCLUSIVE
    assert combine([check.status for check in checks.values()]) is Status.INCONCLUSIVE


def test_a_probe_that_is_not_known_is_one_line(tiny: SyntheticCheckpoint) -> None:
    with pytest.raises(InputError, match=r"--probe txt: no such probe; .*; did you mean text\?$"):
        compare(tiny, probes=("txt",))


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_loaded(gemma_copy: Path) -> None:
    lost = "language_model.model.layers.3.input_layernorm.weight"
    rewrite_files(gemma_copy, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != lost})
    steps: list[str] = []
    run = Run(progress=steps.append)
    (check,) = compare(SyntheticCheckpoint(gemma=gemma_copy, cosmos=gemma_copy), run=run).values()
    assert (check.id, check.status) == ("parity.files", Status.FAILED)
    assert check.reason == "nothing was loaded: the checkpoint's files and the model do not fit"
    assert [finding.code for finding in check.findings] == ["files.missing"]
    assert steps == ["checking the checkpoint"]
    assert [record.role for record in run.subjects] == ["reference", "candidate"]
