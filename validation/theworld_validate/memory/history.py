"""Who owns every byte at the peak: read from the allocator's own history.

In: the blocks that were there before a step, the history of the step, and the addresses of known tensors. Out: the
bytes at the peak by kind, and the largest blocks with the code that asked for them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from theworld_validate.memory.outcomes import Owner

NUM_OWNERS = 10
KINDS = ("parameters", "gradients", "optimizer_state", "activations", "temporaries", "inputs", "workspace")
CALL_KINDS = ("parameters", "cache", "temporaries", "inputs", "workspace")  # of a call that generates


@dataclass(slots=True)
class _Block:
    size: int
    kind: str
    asked_by: str = ""
    kind_in_call: str = ""
    born_us: float = 0.0
    freed_us: float = float("inf")


def split_peak(
    before: Sequence[Mapping[str, Any]],
    snapshot: Mapping[str, Any],
    *,
    known: Mapping[str, set[int]],
    gradients: Iterable[int] = (),
    backward_began_us: float | None,
    gradients_began_us: float | None = None,
) -> tuple[dict[str, int], tuple[Owner, ...]]:
    """Replay a step's history to its peak, and sort what lives there.

    "activations" were asked for in the forward pass and are still there when the backward pass begins;
    "temporaries" are all else that the step asked for, recomputed activations among it; "workspace" was there
    before and is no known tensor: the libraries' own.

    Args:
        before: `torch.cuda.memory_snapshot()` from before the step.
        snapshot: `torch.cuda.memory._snapshot()` from after it.
        known: kind -> addresses of storages that were there before the step.
        gradients: addresses that gradients had; of several blocks there, the one that lived into the optimizer.
        backward_began_us: Unix time in microseconds; None of a call that generates: then what keys and values were
            put into is "cache", and what was moved to the device "parameters".
        gradients_began_us: the same of the step's first backward pass; None where that is the only one.

    Returns:
        Kind -> bytes as they were asked for (the allocator rounds them up), and the largest blocks.
    """
    blocks, peak_at = _replay(before, snapshot, known)
    gradient_addresses = set(gradients)
    gradients_began_us = backward_began_us if gradients_began_us is None else gradients_began_us
    split: dict[str, int] = dict.fromkeys(KINDS if backward_began_us is not None else CALL_KINDS, 0)
    living = []
    for address, block in blocks:
        if not block.born_us <= peak_at < block.freed_us:
            continue
        if block.kind == "new":
            if backward_began_us is None or gradients_began_us is None:
                block.kind = block.kind_in_call
            elif address in gradient_addresses and block.born_us >= gradients_began_us:
                block.kind = "gradients"
            else:
                block.kind = _kind_of_new(block, backward_began_us)
        split[block.kind] += block.size
        living.append(block)
    largest = sorted(living, key=lambda block: -block.size)[:NUM_OWNERS]
    owners = tuple((block.kind, block.size, block.asked_by) for block in largest)
    return split, owners


def bytes_kept_for_backward(
    snapshot: Mapping[str, Any], *, backward_began_us: float, forward_began_us: float = 0.0
) -> int:
    """What a forward pass asked for, and is still there when its backward pass begins."""
    blocks, _ = _replay([], snapshot, {})
    return sum(
        block.size for _, block in blocks if forward_began_us <= block.born_us < backward_began_us < block.freed_us
    )


def _kind_of_new(block: _Block, backward_began_us: float) -> str:
    return "activations" if block.born_us < backward_began_us < block.freed_us else "temporaries"


def _replay(
    before: Sequence[Mapping[str, Any]], snapshot: Mapping[str, Any], known: Mapping[str, set[int]]
) -> tuple[list[tuple[int, _Block]], float]:
    """Every block of the step with its life, and when the sum of the living was largest; times are event numbers."""
    kind_at = {address: kind for kind, addresses in known.items() for address in addresses}
    kind_at |= dict.fromkeys(known.get("buffers", ()), "parameters")
    live: dict[int, _Block] = {}
    for segment in before:
        for block in segment["blocks"]:
            if block["state"] == "active_allocated":
                address = block["address"]
                live[address] = _Block(size=block["size"], kind=kind_at.get(address, "workspace"), asked_by="(before)")
    blocks = list(live.items())
    allocated = peak = sum(block.size for block in live.values())
    peak_at = 0.0
    for event in snapshot["device_traces"][0]:
        address, moment = event.get("addr"), event["time_us"]
        if event["action"] == "alloc":
            frames = event["frames"]
            block = _Block(
                size=event["size"],
                kind="new",
                asked_by=_asked_by(frames),
                kind_in_call=_kind_in_call(frames),
                born_us=moment,
            )
            live[address] = block
            blocks.append((address, block))
            allocated += block.size
            if allocated > peak:
                peak, peak_at = allocated, moment
        elif event["action"] == "free_completed" and address in live:
            block = live.pop(address)
            block.freed_us = moment
            allocated -= block.size
    return blocks, peak_at


def _kind_in_call(frames: Sequence[Mapping[str, Any]]) -> str:
    innermost = frames[0] if frames else {"filename": "", "name": ""}
    if innermost["filename"].endswith("cache_utils.py"):
        return "cache"
    is_move = innermost["filename"].endswith("nn/modules/module.py") and innermost["name"] == "convert"
    return "parameters" if is_move else "temporaries"


_OF_THE_MODEL = ("modeling_", "theworld/", "autoencoder_", "transformer_cosmos", "chunked_loss", "optim/")


def _asked_by(frames: Sequence[Mapping[str, Any]]) -> str:
    """The innermost frame of the model's code, or of torch's: file:line function; backward has no Python frame."""
    for frame in frames:
        if any(part in frame["filename"] for part in _OF_THE_MODEL):
            return f"{frame['filename'].rsplit('/', 1)[-1]}:{frame['line']} {frame['name']}"
    return "backward" if not frames else f"{frames[0]['filename'].rsplit('/', 1)[-1]} {frames[0]['name']}"
