"""A run of many steps: its lengths, steps that are derived and not traced, the replay, and what is said of it."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from theworld_validate.memory import run_replay
from theworld_validate.memory.allocator import AllocatorSettings, CachingAllocator
from theworld_validate.memory.budget import Budget
from theworld_validate.memory.cells import Cell
from theworld_validate.memory.lengths import MAX_STEPS, Lengths, read_lengths
from theworld_validate.memory.predict import Predictor
from theworld_validate.memory.run_answers import OwnLabour, ReplayTask, answer_runs, replay_task, trace_program
from theworld_validate.memory.run_checks import RunTerms, check_runs
from theworld_validate.memory.run_outcomes import CHECKPOINTING, RunOutcome, RunPrediction, RunQuestion, RunVariant
from theworld_validate.memory.run_replay import PRECISION_BYTES, RunReplayed, least_memory, replay_run
from theworld_validate.memory.step_program import (
    AlikeSteps,
    RunStep,
    StepProgram,
    lengths_to_trace,
    steps_of,
)
from theworld_validate.rendering.tables import Table, tables_of
from theworld_validate.results import CheckResult, InputError, Status
from theworld_validate.subjects.empty_models import blueprint_of_size

MIB = 1 << 20
SMALL = ("--checkpointing", "off", "--preset", "projection")
CELL = Cell(preset="projection")
LENGTHS = [300, 340, 380, 420, 512]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(blueprint_of_size("tiny"))


def program(*sizes: int, actions: Sequence[int] = ()) -> StepProgram:
    """A step that takes blocks of these sizes and then gives them back; an input of 1 byte."""
    order = tuple(actions) or (*range(len(sizes)), *(~i for i in range(len(sizes))))
    return StepProgram(
        actions=order,
        sizes=(*sizes, *(0,) * (len(order) - len(sizes))),
        streams=(0,) * len(order),
        once=(),
        inputs=(1,),
        parameters=(30 * MIB,),
    )


def steps(lengths: Sequence[int], *factors: int) -> dict[int, RunStep]:
    """A length's step takes blocks of the length times each factor, in MiB."""
    return steps_of(lengths, {n: program(*(n * factor * MIB for factor in factors)) for n in lengths})


def sizes_at(step: RunStep) -> list[int]:
    return [size for _, size, _ in step.actions(is_first=True)]


def test_lengths_are_drawn_or_read(tmp_path: Path) -> None:
    drawn = read_lengths("uniform:5:9", num_steps=50, seed=3)
    assert drawn == read_lengths("uniform:5:9", num_steps=50, seed=3)
    assert drawn.values != read_lengths("uniform:5:9", num_steps=50, seed=4).values
    assert set(drawn.values) == {5, 6, 7, 8, 9}
    assert drawn.title == "50 steps of 5 to 9 text tokens, uniform, seed 3"
    file = tmp_path / "lengths.txt"
    file.write_text("7\n\n 8 \n9\n")
    assert read_lengths(str(file)) == Lengths(title="3 steps of 7 to 9 text tokens, of lengths.txt", values=(7, 8, 9))
    assert read_lengths(str(file), num_steps=2).title.endswith("cut from its 3")
    again = read_lengths(str(file), num_steps=5)
    assert again.values == (7, 8, 9, 7, 8)
    assert again.title.endswith("its 3 again and again")
    file.write_text("512\n" * MAX_STEPS + "4096\n")
    with pytest.raises(InputError, match=r"10,001 lines; give --steps, up to 10,000, for the first of them"):
        read_lengths(str(file), num_steps=None)
    # What is cut is not what the run is said to be of.
    assert "of 512 to 512 text tokens" in read_lengths(str(file), num_steps=5).title


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"7\nlong\n", "lengths.txt, line 2: 'long' is no whole number of text tokens from 1 to 10,000,000"),
        (b"7\n0\n", "lengths.txt, line 2: '0' is no whole number"),
        (b"1.5\n", "lengths.txt, line 1: '1.5' is no whole number"),
        ("٣\n".encode(), "line 1: '٣' is no whole number"),
        (b"\n\n", "lengths.txt: empty; give one number"),
        (b"\xff\xfe1", "no text in UTF-8"),
    ],
)
def test_a_bad_line_is_named(text: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "lengths.txt"
    file.write_bytes(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_lengths(str(file))


@pytest.mark.parametrize("spec", ["uniform:5", "uniform:9:5", "uniform:0:5", "uniform:a:b", "uniform:1:99999999"])
def test_a_distribution_that_is_none_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"--lengths {spec}: give uniform:LEAST:MOST")):
        read_lengths(spec)


def test_what_is_derived_is_what_a_trace_finds(predictor: Predictor) -> None:
    """Four lengths are traced; a fifth that took no part is derived, and traced: the same to the byte, in order."""
    for cell in (CELL, replace(CELL, checkpointing=True)):
        traced: dict[int, StepProgram] = {}
        while missing := lengths_to_trace(LENGTHS, traced):
            traced |= {n: trace_program(predictor, replace(cell, text_tokens=n)) for n in missing}
        (held_out,) = set(LENGTHS) - set(traced)
        derived = steps_of(LENGTHS, traced)[held_out]
        own = trace_program(predictor, replace(cell, text_tokens=held_out))
        real = steps_of([held_out], {held_out: own})[held_out]
        for is_first in (True, False):
            assert list(derived.actions(is_first=is_first)) == list(real.actions(is_first=is_first))
        assert derived.inputs == real.inputs


def test_a_size_that_no_formula_gives_is_traced() -> None:
    """One size is cubic, and then every length is traced; squares, and what is constant, need four."""

    def missing_after(size: Any, rounds: int) -> int:
        traced: dict[int, StepProgram] = {}
        for _ in range(rounds):
            traced |= {n: program(size(n)) for n in lengths_to_trace(range(1, 41), traced)}
        assert not lengths_to_trace(range(1, 41), traced)
        return len(traced)

    assert missing_after(lambda n: 7, 1) == missing_after(lambda n: 3 * n * n + n, 1) == 4
    assert missing_after(lambda n: n**3, 9) == 40


def test_a_held_out_length_is_what_proves_it() -> None:
    """Three points always lie on a square; only the fourth can say that the size is none."""
    three = {n: program(n**3) for n in (1, 2, 3)}
    assert not AlikeSteps(three).is_proven
    assert not AlikeSteps(three | {4: program(4**3)}).is_proven
    squares = AlikeSteps({n: program(n * n) for n in (10, 20, 30, 40)})
    step = squares.at(25)
    assert squares.is_proven
    assert step is not None
    assert sizes_at(step)[0] == 1024  # 625, rounded up


def test_where_the_order_changes_lengths_are_told_apart() -> None:
    """As a chunked loss has it: from 20 on one block more. Around the border lengths are traced, elsewhere derived."""

    def at(n: int) -> StepProgram:
        return program(n * MIB, *((n * MIB,) if n >= 20 else ()))

    traced: dict[int, StepProgram] = {}
    while missing := lengths_to_trace(range(1, 201), traced):
        traced |= {n: at(n) for n in missing}
    assert len(traced) < 40
    derived = steps_of(range(1, 201), traced)
    for n in range(1, 201):
        own = steps_of([n], {n: at(n)})[n]
        assert list(derived[n].actions(is_first=True)) == list(own.actions(is_first=True))


def test_equal_steps_are_the_step_that_is_predicted(predictor: Predictor) -> None:
    """Three steps of one length are what `memory predict` replays for that length."""
    cell = replace(CELL, preset="full", world_tokens=16, text_tokens=80)
    one = predictor.predict(cell)
    (answer,) = answer_runs([cell], question([80] * 3), OwnLabour(predictor))
    free = answer.outcomes[0].free
    inputs = 1 << 16  # the next batch is there before the last one goes
    assert one.peak_allocated_bytes is not None
    assert one.peak_allocated_bytes <= free.peak_allocated_bytes <= one.peak_allocated_bytes + inputs
    assert free.peak_reserved_bytes == one.peak_reserved_bytes


def question(lengths: Sequence[int], capacity: int | None = None, **settings: Any) -> RunQuestion:
    return RunQuestion(
        lengths=Lengths(title="", values=tuple(lengths)),
        settings=AllocatorSettings(**settings),
        capacity_bytes=capacity,
    )


def test_growing_lengths_reserve_more_than_the_longest_needs() -> None:
    """By hand: 30 MiB of parameters; then a segment of 2 MiB for inputs, and for each length one of its own."""
    found = replay_run(steps([20, 30, 40], 1), [20, 30, 40])
    assert [reserved // MIB for reserved in found.reserved] == [52, 82, 122]
    assert [allocated // MIB for allocated in found.allocated] == [50, 60, 70]
    assert (found.peak_allocated_step, found.peak_reserved_step, found.unused_step) == (3, 3, 3)
    assert found.unused_bytes == (122 - 70) * MIB - 512
    falling = replay_run(steps([20, 30, 40], 1), [40, 30, 20])
    assert falling.peak_reserved_bytes == 72 * MIB
    expandable = replay_run(steps([20, 30, 40], 1), [20, 30, 40], settings=AllocatorSettings(expandable_segments=True))
    assert expandable.peak_reserved_bytes == 82 * MIB  # 70 in pages of 20, and 2 for inputs


@pytest.mark.parametrize(
    ("capacity", "verdict"),
    [
        (122, "fits"),
        (121, "fits by 1 retries"),
        (72, "fits by 2 retries"),
        (71, "runs out of memory at step 3"),
        (61, "runs out of memory at step 2"),
        (29, "runs out of memory at step 0"),
    ],
)
def test_a_limit_is_met_by_retries_or_not(capacity: int, verdict: str) -> None:
    found = replay_run(steps([20, 30, 40], 1), [20, 30, 40], capacity=capacity * MIB)
    assert found.verdict == verdict
    assert found.peak_reserved_bytes <= capacity * MIB


@pytest.mark.parametrize("settings", [AllocatorSettings(), AllocatorSettings(expandable_segments=True)])
@pytest.mark.parametrize("less", [0, MIB])
def test_a_limit_that_is_not_reached_needs_no_replay(settings: AllocatorSettings, less: int) -> None:
    lengths = (20, 30, 40)
    programs = {n: program(n * MIB) for n in lengths}
    capacity = replay_run(steps(lengths, 1), lengths, settings=settings).peak_reserved_bytes - less
    variant = RunVariant(title="", lengths=lengths, settings=settings)
    task = ReplayTask(variant=variant, programs=programs, lengths=lengths, capacity_bytes=capacity)
    outcome = replay_task(task)
    assert outcome.limited == replay_run(steps(lengths, 1), lengths, settings=settings, capacity=capacity)
    assert (outcome.limited == outcome.free) == (not less)


def test_the_least_memory_is_a_border() -> None:
    lengths = [20, 30, 40, 33, 21, 38] * 4
    made = steps([20, 21, 30, 33, 38, 40], 1, 2)
    for settings in (AllocatorSettings(), AllocatorSettings(expandable_segments=True)):
        free = replay_run(made, lengths, settings=settings)
        least = least_memory(made, lengths, free, settings=settings)
        assert replay_run(made, lengths, settings=settings, capacity=least).completes
        assert not replay_run(made, lengths, settings=settings, capacity=least - PRECISION_BYTES).completes
        assert free.peak_allocated_bytes <= least <= free.peak_reserved_bytes


def test_the_least_memory_sees_a_step_that_comes_late() -> None:
    """The first steps are short; the long one at the end decides."""
    lengths = [20] * 30 + [40, 60] + [20] * 30
    made = steps([20, 40, 60], 3)
    free = replay_run(made, lengths)
    assert least_memory(made, lengths, free, settings=AllocatorSettings()) >= (30 + 180) * MIB


def test_an_even_end_is_not_replayed_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [20, 40, *[30] * 50]
    made = steps([20, 30, 40], 1, 2)
    played: list[int] = []
    play = CachingAllocator.play

    def counted(self: CachingAllocator, actions: Any, living: Any) -> None:
        if living is not None and not isinstance(actions, tuple):
            played.append(1)
        play(self, actions, living)

    monkeypatch.setattr(CachingAllocator, "play", counted)
    short = replay_run(made, lengths)
    assert len(played) < 10
    monkeypatch.setattr(run_replay, "_is_settled", lambda seen: False)
    assert replay_run(made, lengths) == short
    assert len(short.reserved) == len(lengths)


def test_what_would_help_is_replayed(predictor: Predictor) -> None:
    """In what is enough for it, checkpointing alone completes; each lever's figures are those of its own run."""
    lengths = [300, 420, 340, 512, 380, 512]
    labour = OwnLabour(predictor)
    (checkpointed,) = answer_runs([replace(CELL, checkpointing=True)], question(lengths), labour)
    capacity = checkpointed.outcomes[0].free.peak_reserved_bytes
    (found,) = answer_runs([CELL], question(lengths, capacity), labour)
    assert found.error is None
    assert found.cell.text_tokens == 512
    assert found.num_traced == 4
    by_title = {outcome.title: outcome for outcome in found.outcomes}
    assert list(by_title) == [
        "as asked",
        "expandable_segments:True",
        "max_split_size_mb:128",
        "garbage_collection_threshold:0.8",
        "lengths padded to multiples of 128",
        "the longest first",
        "all padded to the longest",
        CHECKPOINTING,
    ]
    assert by_title["as asked"].completes is False
    assert by_title[CHECKPOINTING].completes
    assert by_title[CHECKPOINTING].free == checkpointed.outcomes[0].free
    (even,) = answer_runs([CELL], question([512] * 6), labour)
    assert by_title["all padded to the longest"].free == even.outcomes[0].free


def test_a_run_tells_what_its_longest_step_keeps_on_the_host(predictor: Predictor) -> None:
    cell = replace(CELL, offload_activations=True)
    (found,) = answer_runs([cell], question([300, 420]), OwnLabour(predictor))
    longest, shorter = (predictor.predict(replace(cell, text_tokens=length)).host_bytes for length in (420, 300))
    assert shorter is not None
    assert found.host_bytes == longest
    assert (longest or 0) > shorter > 0
    (check,) = check_runs([found], [cell], RunTerms(question=question([300, 420])))
    assert [table.rows[0][titles.index("host")] for table, titles in _tables(check) if "host" in titles] == [longest]
    (kept,) = answer_runs([CELL], question([300]), OwnLabour(predictor))
    assert kept.host_bytes is None


def _tables(check: CheckResult) -> list[tuple[Table, list[str]]]:
    return [(table, [column.title for column in table.columns]) for table in tables_of(check.measurements)]


def test_the_command_answers_for_a_run(tmp_path: Path) -> None:
    """1.08 GiB are less than the process's own and the workspaces of matrix products: it ends at the first step."""
    small = ("--config", "tiny", "--preset", "projection", "--checkpointing", "on", "--world-tokens", 16)
    run = ("memory", "predict", *small, "--lengths", "uniform:20:120", "--steps", 20, "--seed", 5, "--gpu", 1.08)
    result = invoke(*run, "--output", tmp_path)
    assert result.exit_code == 1, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    (check,) = report["checks"]
    (row,) = check["measurements"]["runs"]
    assert check["id"] == "memory.run"
    assert check["measurements"]["lengths"] == "20 steps of 20 to 120 text tokens, uniform, seed 5"
    assert row["peak_allocated_bytes"] <= row["least_bytes"] <= row["peak_reserved_bytes"]
    (course,) = check["measurements"]["courses"]
    assert max(course["reserved"]) == row["peak_reserved_bytes"]
    assert course["reserved"][row["peak_reserved_step"] - 1] == row["peak_reserved_bytes"]
    assert course["allocated"][row["peak_allocated_step"] - 1] == row["peak_allocated_bytes"]
    figure = (tmp_path / "memory.run.run.svg").read_text()
    assert "a run without a limit" in figure
    assert "the limit of the GPU" in figure
    (finding,) = check["findings"]
    assert finding["code"] == "memory.run_out_of_memory"
    where = "in 62.7 MB, which a process has of 1.08 GiB (1.08 GiB less 2 % of margin and 1 GiB for the CUDA context)"
    assert f"the run of 20 steps runs out of memory at step 1 {where}" in finding["message"]
    assert (row["completes"], row["out_of_memory_step"]) == (False, 1)
    assert (finding["expected"], finding["actual"]) == (check["measurements"]["capacity_bytes"], row["least_bytes"])


def test_a_run_that_lives_by_retries_is_a_warning() -> None:
    made = steps([20, 30, 40], 1)
    outcome = replay_task_of(made, [20, 30, 40], 100 * MIB)
    prediction = RunPrediction(cell=CELL, outcomes=(outcome,), num_traced=3)
    terms = RunTerms(question=question([20, 30, 40], 100 * MIB))
    (check,) = check_runs([prediction], [CELL], terms)
    (finding,) = check.findings
    assert check.status is Status.PASSED
    assert (finding.code, finding.severity, finding.actual) == ("memory.run_retries", "warning", 1)
    failed = RunPrediction(cell=CELL, error="no such thing")
    (check,) = check_runs([failed], [CELL], terms)
    assert check.status is Status.FAILED
    assert "no such thing" in check.findings[0].message


def replay_task_of(made: dict[int, RunStep], lengths: list[int], capacity: int) -> RunOutcome:
    free, limited = replay_run(made, lengths), replay_run(made, lengths, capacity=capacity)
    return RunOutcome(title="as asked", free=free, limited=limited, least_bytes=72 * MIB)


def test_a_run_over_its_budget_fails() -> None:
    outcome = replay_task_of(steps([20, 30], 1), [20, 30], 200 * MIB)
    prediction = RunPrediction(cell=CELL, outcomes=(outcome,))
    budgets = (Budget(choices={"preset": "projection"}, max_reserved_gb=0.08),)  # it reserves 82 MiB
    (check,) = check_runs([prediction], [CELL], RunTerms(question=question([20, 30], 200 * MIB), budgets=budgets))
    assert [finding.code for finding in check.findings] == ["memory.budget"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--lengths", "no/such.txt"], ["--lengths no/such.txt: no such file"]),
        (["--lengths", "uniform:9:5"], ["give uniform:LEAST:MOST"]),
        (["--lengths", "uniform:5:9", "--steps", "0"], ["--steps 0: give a whole number from 1 to 10,000"]),
        (["--lengths", "uniform:5:9", "--text-tokens", "7"], ["--lengths and --text-tokens both say"]),
        (["--lengths", "uniform:5:9", "--sweep", "batch"], ["--lengths and --sweep both"]),
        (["--lengths", "uniform:5:9", "--task", "generate"], ["--lengths is of training steps"]),
        (["--lengths", "uniform:5:9", "--gc-threshold", "0.5"], ["is a share of a limit"]),
        (["--lengths", "uniform:5:9", "--max-split-size-mb", "3"], ["give a number of MiB above 20"]),
        (["--steps", "5"], ["--steps is of a run of many steps; give its --lengths too"]),
        (["--seed", "5"], ["--seed is of a run of many steps"]),
        (["--lengths", "uniform:5:9000"], ["the prompt has", "positions for 4,096"]),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], parts: list[str]) -> None:
    assert_input_error(
        invoke("memory", "predict", "--config", "tiny", *([] if "--task" in arguments else SMALL), *arguments), *parts
    )


def test_a_run_without_steps_has_no_peak() -> None:
    """Where loading is too much already."""
    found = RunReplayed(allocated=(), reserved=(), unused_bytes=0, unused_step=0, num_retries=1, out_of_memory_step=0)
    assert (found.peak_allocated_bytes, found.peak_allocated_step, found.completes) == (0, 0, False)
