"""The split of a measured peak: from a history written by hand."""

from typing import Any

from theworld_validate.memory.history import bytes_kept_for_backward, split_peak


def alloc(address: int, size: int, moment: int, *files: str) -> dict[str, Any]:
    frames = [{"filename": name, "line": 7, "name": "forward"} for name in files]
    return {"action": "alloc", "addr": address, "size": size, "time_us": moment, "frames": frames}


def free(address: int, moment: int) -> dict[str, Any]:
    return {"action": "free_completed", "addr": address, "size": 0, "time_us": moment}


def test_every_byte_has_a_kind() -> None:
    before = [
        {
            "blocks": [
                {"address": 1, "size": 1000, "state": "active_allocated"},
                {"address": 2, "size": 64, "state": "active_allocated"},
                {"address": 3, "size": 10, "state": "active_allocated"},
                {"address": 4, "size": 5000, "state": "inactive"},
            ]
        }
    ]
    events = [
        alloc(10, 300, 1, "torch/nn/linear.py", "models/modeling_gemma3.py"),  # an activation
        alloc(11, 800, 2, "models/modeling_gemma3.py"),  # gone before the backward pass
        free(11, 3),
        alloc(12, 500, 12),  # a gradient
        alloc(13, 400, 13),  # scratch, at the peak
        free(13, 14),
        free(10, 15),
    ]
    split, owners = split_peak(
        before,
        {"device_traces": [events]},
        known={"parameters": {1}, "inputs": {3}, "buffers": set()},
        gradients=[12],
        backward_began_us=10,
    )
    assert split == {
        "parameters": 1000,
        "gradients": 500,
        "optimizer_state": 0,
        "activations": 300,
        "temporaries": 400,
        "inputs": 10,
        "workspace": 64,
    }
    assert bytes_kept_for_backward({"device_traces": [events]}, backward_began_us=10) == 300
    assert owners[0] == ("parameters", 1000, "(before)")
    assert owners[1] == ("gradients", 500, "backward")
    assert owners[3] == ("activations", 300, "modeling_gemma3.py:7 forward")


def test_a_peak_in_the_forward_pass() -> None:
    events = [alloc(11, 900, 2, "x.py"), free(11, 3), alloc(12, 100, 12)]
    split, _ = split_peak([], {"device_traces": [events]}, known={}, gradients=[], backward_began_us=10)
    assert split["temporaries"] == 900


def test_of_a_call_the_cache_and_what_came_to_the_device_are_kinds() -> None:
    moved = {**alloc(13, 700, 4, "torch/nn/modules/module.py")}
    moved["frames"][0]["name"] = "convert"
    events = [
        alloc(11, 900, 2, "transformers/cache_utils.py", "models/modeling_gemma3.py"),
        alloc(12, 100, 3, "models/modeling_gemma3.py"),
        moved,
    ]
    split, _ = split_peak([], {"device_traces": [events]}, known={}, backward_began_us=None)
    assert split == {"parameters": 700, "cache": 900, "temporaries": 100, "inputs": 0, "workspace": 0}


def test_gradients_of_earlier_batches_are_no_activations() -> None:
    """Two batches: backward from 5 and from 12."""
    events = [
        alloc(10, 300, 1, "x.py"),  # an activation of the first batch
        alloc(12, 500, 6),  # a gradient, which stays
        free(10, 7),
        alloc(10, 310, 9, "x.py"),  # an activation of the second, at the peak
        alloc(13, 40, 13),
    ]
    history = {"device_traces": [events]}
    split, _ = split_peak([], history, known={}, gradients=[12], backward_began_us=12, gradients_began_us=5)
    assert (split["activations"], split["gradients"], split["temporaries"]) == (310, 500, 40)
    assert bytes_kept_for_backward(history, backward_began_us=12, forward_began_us=8) == 310
