"""The prediction: against the allocations of the same run with real tensors, and what it says of fitting."""

import contextlib
import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from tests.conftest import load_world
from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.memory.allocator import SMALL_SEGMENT
from theworld_validate.memory.answers import ModelSource, Question, answer_all
from theworld_validate.memory.cell_inputs import make_inputs
from theworld_validate.memory.cell_steps import forward_and_backward, prepare_model
from theworld_validate.memory.cells import Cell, build_matrix
from theworld_validate.memory.cuda_routes import attention_as_on_cuda, attention_scratch_bytes, scratch_bytes
from theworld_validate.memory.gpus import find_gpu, gpu_bytes
from theworld_validate.memory.in_workers import answer_in_workers
from theworld_validate.memory.levers import find_levers, sweep
from theworld_validate.memory.optimizers import Learning, states_of
from theworld_validate.memory.predict import Predictor
from theworld_validate.memory.tracer import StorageTracer
from theworld_validate.results import InputError
from theworld_validate.subjects.empty_models import blueprint_of_size
from theworld_validate.workers.run import Run

MATRIX = build_matrix(
    preset=["projection", "vision", "language", "full"],
    checkpointing=[False, True],
    chunked_loss=[False, True],
    text_tokens=[256],
    world_tokens=[196],
)


# What CPU kernels take for themselves at the peak (layer norm's buffers); CUDA's have their own.
CPU_SCRATCH_BYTES = 1 << 16
# Within these a CPU takes what CUDA does not: scratch of a size that is up to the processor, and copies of operands
# or results of another dtype.
CPU_ONLY = ("aten::convolution", "aten::convolution_backward", "aten::mul", "aten::sub")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(blueprint_of_size("tiny"))


@pytest.fixture(scope="module")
def real(tiny: SyntheticCheckpoint) -> TheWorld:
    model = load_world(tiny, dtype=torch.bfloat16, world={})
    peak_of_real_run(model, Cell(preset="full", text_tokens=16, world_tokens=16))  # the libraries' first-time work
    return model


def peak_of_real_run(model: TheWorld, cell: Cell) -> int:
    """Peak bytes of one step over what was there before."""
    prepare_model(model, cell)
    inputs = make_inputs(cell, model.config, device="cpu")

    def run() -> None:
        with attention_as_on_cuda():
            forward_and_backward(model, inputs, on_phase=lambda phase: None, autocast=contextlib.nullcontext())

    gc.collect()  # what an earlier profile saw allocated would be seen freed in this one
    peak = profiled_peak(run)
    model.zero_grad()
    return peak


def profiled_peak(run: Callable[[], None]) -> int:
    """Peak bytes over what was there before a run, as the profiler sees them; of `CPU_ONLY`, what is left."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    allocated = peak = looks_from = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() in CPU_ONLY:
            looks_from = max(looks_from, event.start_ns() + event.duration_ns())
        elif event.name() == "[memory]":
            before, allocated = allocated, allocated + event.nbytes()
            if event.start_ns() > looks_from:
                peak = max(peak, before, allocated)
    return peak


@pytest.mark.parametrize("cell", MATRIX, ids=lambda cell: cell.name)
def test_it_is_what_a_real_run_allocates(predictor: Predictor, real: TheWorld, cell: Cell) -> None:
    allocated = predicted = 0
    for event in predictor.trace(cell).events:
        allocated += event.num_bytes
        predicted = max(predicted, allocated)
    assert predicted == pytest.approx(peak_of_real_run(real, cell), rel=2e-3, abs=CPU_SCRATCH_BYTES)


def test_a_gradient_that_is_kept_twice_would_show(
    real: TheWorld, monkeypatch: pytest.MonkeyPatch, predictor: Predictor
) -> None:
    """The comparison above can fail: without the rule for gradients that are added in place it does."""
    from theworld_validate.memory.tracer import StorageTracer

    cell = Cell(preset="full", text_tokens=64, world_tokens=64)
    right = len(predictor.trace(cell).events)
    monkeypatch.setattr(StorageTracer, "_adds_in_place", lambda self, args, kwargs: False)
    wrong = len(Predictor(blueprint_of_size("tiny")).trace(cell).events)
    assert wrong > right


def test_the_same_cell_gives_the_same_bytes(predictor: Predictor) -> None:
    cell = Cell(preset="vision", text_tokens=100)
    one = predictor.predict(cell)
    other = Predictor(blueprint_of_size("tiny")).predict(cell)
    assert replace(one, seconds=0.0) == replace(other, seconds=0.0)
    assert sum(one.split_bytes.values()) == one.peak_allocated_bytes == max(one.phase_peaks_bytes.values())
    assert one.peak_reserved_bytes is not None
    assert one.peak_allocated_bytes is not None
    assert one.peak_reserved_bytes >= one.peak_allocated_bytes
    assert len(one.owners) == 10


def test_optimizer_states_are_those_of_what_learns(predictor: Predictor) -> None:
    plain = predictor.predict(Cell(preset="language", checkpointing=True, text_tokens=16, world_tokens=16))
    learning = sum(p.numel() for n, p in _trainable("language"))
    assert plain.split_bytes["optimizer_state"] == 2 * 2 * learning
    eight = predictor.predict(replace(plain.cell, optimizer="adamw-8bit"))
    asked = [
        Learning(elements=p.numel(), item_bytes=2, is_embedding="embed_tokens" in name)
        for name, p in _trainable("language")
    ]
    assert eight.split_bytes["optimizer_state"] == sum(r.num_bytes for r in states_of(asked, "adamw-8bit"))
    mixed = predictor.predict(replace(plain.cell, precision="mixed"))
    assert mixed.split_bytes["optimizer_state"] == 2 * 4 * learning
    again = predictor.predict(replace(plain.cell, text_tokens=17))
    assert again.split_bytes["parameters"] == plain.split_bytes["parameters"] < mixed.split_bytes["parameters"]


def _trainable(preset: str) -> list[tuple[str, Any]]:
    from theworld_validate.subjects.empty_models import build_on_meta

    model = build_on_meta(blueprint_of_size("tiny"), freeze=preset)
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_the_documented_preset_has_its_own_model(predictor: Predictor) -> None:
    documented = predictor.predict(Cell(preset="documented", text_tokens=16, world_tokens=16))
    other = predictor.predict(Cell(preset="projection", text_tokens=16, world_tokens=16))
    assert documented.split_bytes["parameters"] < other.split_bytes["parameters"]


def test_fitting_and_what_would_make_it_fit(predictor: Predictor) -> None:
    cell = Cell(preset="projection", text_tokens=512)
    free = predictor.predict(cell)
    assert free.fits is None
    assert free.peak_reserved_bytes is not None
    assert predictor.predict(cell, capacity_bytes=free.peak_reserved_bytes).fits is True
    chunked = predictor.predict(replace(cell, chunked_loss=True))
    checkpointed = predictor.predict(replace(cell, checkpointing=True))
    assert chunked.peak_reserved_bytes is not None
    assert checkpointed.peak_reserved_bytes is not None
    capacity = checkpointed.peak_reserved_bytes
    assert predictor.predict(cell, capacity_bytes=capacity).fits is False
    found = find_levers(predictor, cell, capacity_bytes=capacity)
    assert "gradient checkpointing" in [way.title for way in found]
    assert [way.step_time for way in found if way.step_time] == sorted(way.step_time for way in found if way.step_time)
    assert find_levers(predictor, cell, capacity_bytes=1000) == []


def test_a_sweep_finds_the_largest_that_fits(predictor: Predictor) -> None:
    cell = Cell(text_tokens=32, world_tokens=16)
    capacity = predictor.predict(replace(cell, batch=5)).peak_reserved_bytes
    assert capacity is not None
    swept = sweep(predictor, cell, "batch", capacity_bytes=capacity)
    assert [p.cell.batch for p in swept] == sorted(p.cell.batch for p in swept)
    largest = max(p.cell.batch for p in swept if p.fits)
    assert predictor.predict(replace(cell, batch=largest + 1), capacity_bytes=capacity).fits is False
    assert [p.cell.text_tokens for p in sweep(predictor, cell, "text", capacity_bytes=None)] == [32, 64, 128, 256, 512]
    # A grid of 64 x 64 is past the model's 4,096 positions.
    assert [p.cell.world_tokens for p in sweep(predictor, cell, "world", capacity_bytes=None)] == [16, 64, 256, 1024]
    longest = sweep(predictor, Cell(text_tokens=1600, world_tokens=16), "text", capacity_bytes=10**12)
    assert max(p.cell.text_tokens for p in longest) == 3200  # 6,400 is past the model's 4,096 positions


def test_what_cannot_be_predicted_is_refused(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="the prompt has 5,805 tokens, and the model has positions for 4,096"):
        predictor.predict(Cell(text_tokens=5000))
    with pytest.raises(InputError, match=r"no such GPU; give h200.*did you mean h200"):
        gpu_bytes("h20")
    with pytest.raises(InputError, match="above 0"):
        gpu_bytes("-3")
    assert gpu_bytes("H200") > gpu_bytes("80") > gpu_bytes("l4")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"preset": []}, "the matrix has nothing in it: no value for preset"),
        ({"preset": ["half"]}, "no preset is named 'half'"),
        ({"precision": ["float8"]}, "no precision is named 'float8'"),
        ({"optimizer": ["lion"]}, "no optimizer is named 'lion'"),
        ({"batch": [0]}, "batch must be a whole number from 1 to 1,000,000, got 0"),
        ({"batch": [10**400]}, "batch must be a whole number from 1 to 1,000,000, got a number of 1,329 bits"),
        ({"num_gpus": [0]}, "num_gpus must be a whole number from 1 to 512"),
        ({"num_gpus": [10**9]}, "num_gpus must be a whole number from 1 to 512, got 1000000000"),
        ({"world_tokens": [10**40]}, "world_tokens must be a whole number from 1 to 1,048,576"),
        ({"text_tokens": [True]}, "text_tokens must be a whole number"),
        ({"checkpointing": [1]}, "checkpointing must be true or false"),
        ({"batch": range(1, 5000)}, "the matrix has 4,999 configurations, and at most 4,096 are taken"),
        ({"world_tokens": [785]}, "785 is none; 784 would do"),
        ({"num_gpus": [2], "accumulation": [2]}, "accumulation are predicted on one GPU"),
        ({"quantization": ["nf4"]}, "layers in 4 bit do not train; give an adapter too"),
        ({"adapter": ["lora:4"]}, "an adapter is given by its config, got lora:4"),
        ({"task": ["generate"], "accumulation": [2]}, "accumulation is no part of the task generate"),
    ],
)
def test_a_matrix_that_cannot_be_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_matrix(**choices)


def test_a_mask_that_no_fused_kernel_reads_costs_what_an_h200_takes() -> None:
    """T5's attention of 128 heads over 512 tokens: scores twice in float32, and five copies of a projection."""
    tracer = StorageTracer(scratch=scratch_bytes)
    with FakeTensorMode(), torch.no_grad():
        query, key, value = (torch.empty(1, 128, 512, 128, dtype=torch.bfloat16) for _ in range(3))
        bias = torch.empty(512, 512, 128, dtype=torch.bfloat16).permute(2, 0, 1)[None]
        for tensor in (query, key, value, bias):
            tracer.adopt(tensor, "inputs", "")
        with attention_as_on_cuda(), tracer:
            functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    now = peak = 0
    for event in tracer.trace.events:
        now += event.num_bytes
        peak = max(peak, now)
    assert abs(peak / (2 * 134_217_728 + 5 * 33_554_432) - 1) < 0.001


def test_attention_scratch_was_measured() -> None:
    """From an H200's allocator, torch 2.11: 2,069 and 5,381 tokens, 8 heads of 256; the vision tower."""
    assert attention_scratch_bytes(8, 2069, 256) == 17_015_712
    assert attention_scratch_bytes(8, 5381, 256) == 44_253_600 + 0
    assert attention_scratch_bytes(16, 4096, 72) == 138_829_824


def test_one_of_two_gpus_has_half_of_everything(predictor: Predictor) -> None:
    cell = Cell(preset="full", checkpointing=True, text_tokens=100, world_tokens=16)
    alone, sharded = predictor.predict(cell), predictor.predict(replace(cell, num_gpus=2))
    assert sharded.split_bytes["optimizer_state"] == pytest.approx(alone.split_bytes["optimizer_state"] / 2, rel=0.01)
    assert sharded.phase_peaks_bytes["optimizer"] < alone.phase_peaks_bytes["optimizer"]
    assert "one of 2 GPUs" in sharded.cell.name
    assert replace(predictor.predict(cell), seconds=0.0) == replace(alone, seconds=0.0)  # the model is as before
    assert not torch.distributed.is_initialized()


def test_a_value_that_is_given_twice_is_one_cell() -> None:
    assert len(build_matrix(batch=[1, 2, 1])) == 2


def test_what_cannot_fit_is_answered_without_a_step(predictor: Predictor) -> None:
    cell = Cell(batch=1_000_000, text_tokens=16, world_tokens=16)
    predicted = predictor.predict(cell, capacity_bytes=10**9)
    assert predicted.fits is False
    assert predicted.peak_reserved_bytes is None
    assert predicted.least_bytes > 10**9
    assert find_levers(predictor, cell, capacity_bytes=10**9) == []
    assert not [traced for traced in predictor._traces if traced.batch == cell.batch]


def test_the_least_is_less_than_any_peak(predictor: Predictor) -> None:
    for cell in (Cell(text_tokens=16, world_tokens=16), Cell(preset="full", text_tokens=16, world_tokens=16)):
        for num_gpus in (1, 2):
            predicted = predictor.predict(replace(cell, num_gpus=num_gpus))
            assert predicted.peak_allocated_bytes is not None
            held = predicted.split_bytes["parameters"] + predicted.split_bytes["inputs"]
            assert 0 < predicted.least_bytes <= held <= predicted.peak_allocated_bytes


@pytest.mark.parametrize("name", ["nan", "inf", "-inf", "0", "-3", "1e308", "", "1e7", "\x1b[31m"])
def test_a_gpu_that_cannot_be_is_one_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        find_gpu(name)
    assert str(caught.value).startswith("--gpu ")
    assert str(caught.value).isprintable()


def test_a_gpu_that_the_context_fills_has_room_for_nothing() -> None:
    assert (find_gpu("1.01").capacity_bytes, find_gpu("0.5").capacity_bytes) == (0, 0)
    assert (find_gpu("1.01").title, find_gpu("H200").title) == ("1.01 GiB", "h200")


def test_an_error_in_one_cell_is_that_cells(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_on_full(model: Any, cell: Cell, **others: Any) -> None:
        if cell.preset == "full":
            raise RuntimeError("planted\nhere")
        prepare_model(model, cell, **others)

    monkeypatch.setattr("theworld_validate.memory.predict.prepare_model", fail_on_full)
    cells = build_matrix(preset=["full", "projection"], text_tokens=[17], world_tokens=[16])
    full, projection = answer_all(blueprint_of_size("tiny"), cells, Question())
    assert (full.error, full.results) == ("RuntimeError: planted\\nhere", ())
    expected = predictor.predict(cells[1])
    assert projection.error is None
    assert replace(projection.results[0], seconds=0.0) == replace(expected, seconds=0.0)


def test_workers_share_the_cells_and_change_nothing() -> None:
    """Each process has a hash seed of its own, and Gemma calls its two rotary embeddings in that order."""
    cells = build_matrix(preset=["projection", "full"], text_tokens=[30], world_tokens=[16])
    alone = answer_all(blueprint_of_size("tiny"), cells, Question())
    seen: list[str] = []
    run, source = Run(progress=seen.append), ModelSource(geometry="tiny")
    shared = {answer.cell: answer for answer in answer_in_workers(run, source, cells, Question(), num_workers=2)}
    for one in alone:
        (mine,), (theirs,) = one.results, shared[one.cell].results
        for field in ("cell", "peak_allocated_bytes", "phase_peaks_bytes", "split_bytes", "fits", "least_bytes"):
            assert getattr(mine, field) == getattr(theirs, field)
        # The order of equal requests decides which of them finds room: one small segment, at most.
        assert mine.peak_reserved_bytes is not None
        assert theirs.peak_reserved_bytes is not None
        assert abs(mine.peak_reserved_bytes - theirs.peak_reserved_bytes) <= SMALL_SEGMENT
    assert sorted(seen) == sorted(cell.title for cell in cells)


def test_an_error_in_a_worker_is_the_users() -> None:
    cells = build_matrix(preset=["projection", "full"], text_tokens=[5000])
    with pytest.raises(InputError, match="the prompt has 5,805 tokens"):
        list(answer_in_workers(Run(), ModelSource(geometry="tiny"), cells, Question(), num_workers=2))


def test_a_worker_that_ends_early_costs_the_cells_that_it_owed() -> None:
    cells = build_matrix(text_tokens=[16, 17], world_tokens=[16])
    run, source = Run(timeout_seconds=0.01), ModelSource(geometry="tiny")
    owed = {answer.cell: answer.error for answer in answer_in_workers(run, source, cells, Question())}
    assert "did not finish within 0.01 s" in (owed[cells[0]] or "")
    assert owed[cells[1]] == "it was not begun: its process had ended before"
