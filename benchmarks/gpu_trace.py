"""Digest and trace on a GPU at the real size, each as a ratio within this run.

    python benchmarks/gpu_trace.py CHECKPOINT [--output FILE]

Prints one JSON object: the state's digest against one device-to-device copy of it, and traced forwards against
plain ones at two lengths, with the peak of extra memory; and traces with sketches against those without. A forward is
one of parity's: an image, labels and a cache.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma3ForConditionalGeneration

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.fingerprint.behaviour import bytes_to_hold
from theworld_validate.fingerprint.digest import DigestQueue
from theworld_validate.fingerprint.sketch import SketchBook
from theworld_validate.fingerprint.trace import Recording, Tracer

REPEATS = 7
PAIRS = 25


def seconds(work: Callable[[], object], *, repeats: int = REPEATS, warm_ups: int = 2) -> float:
    """Median wall-clock of `work`, the device idle before and after."""
    times = []
    for _ in range(repeats + warm_ups):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[warm_ups:])


def digest_state(model: torch.nn.Module) -> None:
    queue = DigestQueue(max_held_bytes=None)
    for parameter in model.parameters():
        queue.add(parameter, {})
    queue.finish()


def measure_digest(model: torch.nn.Module) -> dict[str, Any]:
    parameters = list(model.parameters())
    state_bytes = sum(p.numel() * p.element_size() for p in parameters)
    copies = [torch.empty_like(p) for p in parameters]
    copy_seconds = seconds(lambda: torch._foreach_copy_(copies, [p.detach() for p in parameters]))
    copies.clear()
    digest_seconds = seconds(lambda: digest_state(model))
    return {
        "tensors": len(parameters),
        "state_bytes": state_bytes,
        "copy_seconds": copy_seconds,
        "digest_seconds": digest_seconds,
        "digest_over_copy": digest_seconds / copy_seconds,
    }


def measure_trace(model: Any, num_tokens: int) -> dict[str, Any]:
    config = model.config
    num_image_tokens = config.mm_tokens_per_image
    ids = torch.randint(300, 200_000, (1, num_tokens), device="cuda")
    ids[:, 10 : 10 + num_image_tokens] = config.image_token_index
    types = (ids == config.image_token_index).long()
    side = config.vision_config.image_size
    pixels = torch.rand(1, 3, side, side, device="cuda", dtype=model.dtype)
    inputs = {"input_ids": ids, "token_type_ids": types, "pixel_values": pixels, "labels": ids, "use_cache": True}
    held = bytes_to_hold(model, num_tokens)
    traced: list[Recording] = []

    def plain() -> None:
        with torch.no_grad():
            model(**inputs)

    def trace() -> None:
        with torch.no_grad(), tracer.record(Recording("", held)) as recording:
            model(**inputs)
        traced[:] = [recording]

    def sketch() -> None:
        with torch.no_grad(), tracer.record(Recording("", held, sketches=SketchBook())):
            model(**inputs)

    def peak(work: Callable[[], object]) -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    pairs = []
    for _ in range(PAIRS):  # in turns: a machine's speed drifts within a minute
        # Each after one of its own kind: parity puts its hooks on once and runs many forwards through them.
        plain_once = seconds(plain, repeats=1, warm_ups=1)
        with Tracer(model) as tracer:
            times = [seconds(work, repeats=1, warm_ups=1) for work in (trace, sketch)]
            pairs.append((plain_once, *times))
    ratios = [traced_once / plain_once for plain_once, traced_once, _ in pairs]
    sketched = [sketched_once / traced_once for _, traced_once, sketched_once in pairs]
    plain_peak_bytes = peak(plain)
    with Tracer(model) as tracer:
        trace_peak_bytes, sketch_peak_bytes = peak(trace), peak(sketch)
    plain_seconds, traced_seconds, sketched_seconds = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "tokens": num_tokens,
        "module_outputs": len(traced[0].layer),
        "digested_bytes": traced[0].num_bytes,
        "pairs": PAIRS,
        "plain_seconds": plain_seconds,
        "traced_seconds": traced_seconds,
        "traced_over_plain": statistics.median(ratios),
        "traced_over_plain_quartiles": statistics.quantiles(ratios, n=4),
        "sketched_seconds": sketched_seconds,
        "sketched_over_traced": statistics.median(sketched),
        "plain_peak_bytes": plain_peak_bytes,
        "extra_peak_bytes": trace_peak_bytes - plain_peak_bytes,
        "sketch_extra_peak_bytes": sketch_peak_bytes - trace_peak_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration.from_pretrained(
        arguments.checkpoint, dtype=torch.bfloat16, device_map={"": "cuda:0"}
    )
    measured = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "digest": measure_digest(model),
        "trace": [measure_trace(model, length) for length in (2304, 1280)],
    }
    text = compact_json(measured)
    print(text, end="")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
