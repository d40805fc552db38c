"""What a model answers: trace, logits, loss, KV cache, and generated tokens.

In: a loaded model and probes. Out: three layers of a fingerprint; locations start with the probe's name.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from theworld_validate.documents.observations import Fingerprint, Layer, Observation
from theworld_validate.fingerprint.digest import MAX_HELD_BYTES, DigestQueue, describe_shape
from theworld_validate.fingerprint.state import observe_globals
from theworld_validate.fingerprint.trace import Recording, Tracer
from theworld_validate.probes.gemma3 import NEW_TOKENS, Probe

if TYPE_CHECKING:
    import torch

IGNORED_LABEL = -100  # what Gemma's loss leaves out
_MOST_HELD_BYTES = 2 * 2**30
_GREEDY = {
    "do_sample": False,
    "top_k": None,
    "top_p": None,
    "return_dict_in_generate": True,
    "output_logits": True,
}


def fingerprint_behaviour(
    model: Any,
    probes: Sequence[Probe],
    *,
    seed: int = 0,
    deterministic: bool = True,
    on_probe: Callable[[str], None] = lambda name: None,
) -> Fingerprint:
    """Run every probe and observe trace, outputs and generation.

    Args:
        model: in the mode that its loader left it in.
        probes: what to ask.
        seed: set before each probe and before sampling.
        deterministic: choose deterministic kernels on CUDA; without them some decode steps differ run by run.
        on_probe: called with a probe's name before it runs.
    """
    with deterministic_kernels(enabled=deterministic and model.device.type == "cuda"):
        return _observe(model, probes, seed=seed, on_probe=on_probe)


@contextmanager
def deterministic_kernels(*, enabled: bool, warn_only: bool = True) -> Iterator[None]:
    """Have torch choose kernels that repeat themselves, until the block ends.

    Args:
        warn_only: go on where an operation has no such kernel, as sampling has none; memory-efficient attention
            then keeps its backward kernel that does not repeat itself.
        enabled: whether to change anything. cuDNN's attention is left out then: its results differ from run to run
            on an H200, in decoding and backward, and torch's own switch does not reach it.
    """
    import torch

    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_before = torch.backends.cuda.cudnn_sdp_enabled()
    if enabled:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cuda.enable_cudnn_sdp(cudnn_before)


def _observe(model: Any, probes: Sequence[Probe], *, seed: int, on_probe: Callable[[str], None]) -> Fingerprint:
    trace: Layer = {}
    outputs: Layer = {}
    generation: Layer = {}
    trace_bytes = output_bytes = 0
    queue = DigestQueue()

    def observe(tensor: "torch.Tensor") -> Observation:
        seen: Observation = {"tensor": describe_shape(tensor)}
        queue.add(tensor, seen)
        return seen

    with Tracer(model) as tracer:
        for probe in probes:
            on_probe(probe.name)
            inputs = to_tensors(probe, model)
            recording = Recording(f"{probe.name}/", bytes_to_hold(model, inputs["input_ids"].numel()))
            answered = run_probe(model, tracer, probe, inputs, recording, seed=seed)
            if recording.changed_in_place:
                recording = Recording(f"{probe.name}/", max_held_bytes=0)
                answered = run_probe(model, tracer, probe, inputs, recording, seed=seed)
            trace.update(recording.layer)
            trace_bytes += recording.num_bytes
            for location, tensor in answered.items():
                outputs[f"{probe.name}/{location}"] = observe(tensor)
                output_bytes += tensor.nbytes
    for probe in probes:
        if probe.decode_steps:
            continue
        on_probe(f"{probe.name}, generation")
        for location, tensor in _generate(model, to_tensors(probe, model), seed=seed).items():
            generation[f"{probe.name}/{location}"] = observe(tensor)
        for name, seen in observe_globals().items():
            if name.startswith("rng_state"):
                generation[f"{probe.name}/{name}"] = seen
    queue.finish()
    return Fingerprint(
        layers={"trace": trace, "outputs": outputs, "generation": generation},
        num_bytes={"trace": trace_bytes, "outputs": output_bytes},
    )


def bytes_to_hold(model: Any, num_tokens: int) -> int:
    """What outputs may take while they wait for their digest: no more than head and loss are about to take.

    They are let go before the head runs, so that the peak stays where it is: at the logits and their float32 copy.
    """
    at_the_peak = num_tokens * model.config.get_text_config().vocab_size * (model.dtype.itemsize + 4)
    return min(max(at_the_peak, MAX_HELD_BYTES), _MOST_HELD_BYTES)


def fingerprint_trace(model: Any, probe: Probe, *, seed: int = 0) -> Layer:
    """Run one probe and observe its trace alone."""
    recording = Recording(f"{probe.name}/", max_held_bytes=0)
    with Tracer(model) as tracer:
        run_probe(model, tracer, probe, to_tensors(probe, model), recording, seed=seed)
    return recording.layer


def to_tensors(probe: Probe, model: Any) -> dict[str, "torch.Tensor"]:
    """Put a probe's inputs on the model's device, pixels in its dtype."""
    import torch

    tensors = {name: torch.from_numpy(array).to(model.device) for name, array in probe.inputs.items()}
    if "pixel_values" in tensors:
        tensors["pixel_values"] = tensors["pixel_values"].to(model.dtype)
    return tensors


def make_labels(inputs: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    is_target = (inputs["attention_mask"] == 1) & (inputs["token_type_ids"] == 0)
    return inputs["input_ids"].masked_fill(~is_target, IGNORED_LABEL)


def run_probe(
    model: Any, tracer: Tracer, probe: Probe, inputs: dict[str, "torch.Tensor"], recording: Recording, *, seed: int
) -> dict[str, "torch.Tensor"]:
    """Run one probe under a trace; return logits, loss and KV cache by location."""
    import torch

    answered: dict[str, torch.Tensor] = {}
    torch.manual_seed(seed)
    with torch.no_grad(), tracer.record(recording):
        prompt = dict(inputs)
        if probe.decode_steps:
            per_token = ("input_ids", "attention_mask", "token_type_ids")
            prompt.update({name: inputs[name][:, : -probe.decode_steps] for name in per_token})
        output = model(**prompt, labels=make_labels(prompt), use_cache=True)
        answered["logits"], answered["loss"] = output.logits, output.loss
        cache = output.past_key_values
        for step in range(probe.decode_steps):
            position = prompt["input_ids"].shape[1] + step
            output = model(
                input_ids=inputs["input_ids"][:, position : position + 1],
                attention_mask=inputs["attention_mask"][:, : position + 1],
                past_key_values=cache,
                use_cache=True,
            )
            answered[f"decoded_logits[{step}]"] = output.logits
            cache = output.past_key_values
    for i, layer in enumerate(cache.layers):
        answered[f"cache[{i}].keys"], answered[f"cache[{i}].values"] = layer.keys, layer.values
    return answered


def _generate(model: Any, inputs: dict[str, "torch.Tensor"], *, seed: int) -> dict[str, "torch.Tensor"]:
    """Generate `NEW_TOKENS` tokens greedily, and as many sampled with a fixed seed."""
    import torch

    answered = {}
    length = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
    with torch.no_grad():
        torch.manual_seed(seed)
        greedy = model.generate(**inputs, **length, **_GREEDY)
        torch.manual_seed(seed)
        sampled = model.generate(**inputs, **length, do_sample=True, top_k=50, top_p=0.95)
    # Tokens hardly ever move: the logits that they were chosen from say more.
    answered["greedy"], answered["sampled"] = greedy.sequences, sampled
    answered.update({f"greedy_logits[{i}]": logits for i, logits in enumerate(greedy.logits)})
    return answered
