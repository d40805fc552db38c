"""A probe's forward, and what else is asked of a forward: rows alone, embeddings, the loss for a count of targets.
What other arguments give is asked in `arguments`.

In: a loaded model and a probe. Out: `Answers` by location, less the probe's name. What a model does not have is an
answer too, in words: models that people wrap return tuples, no loss or no cache.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from theworld_validate.fingerprint.digest import MAX_HELD_BYTES
from theworld_validate.fingerprint.placement import device_of, dtype_of, vocab_size_of
from theworld_validate.fingerprint.trace import Recording, Tracer, iterate_tensors
from theworld_validate.probes.probe import IGNORED_LABEL, Inputs, Probe

if TYPE_CHECKING:
    import torch

NONE = "none"  # the answer where there is none
NO_EMBEDS = f"{NONE}: the model takes no inputs_embeds"
_MOST_HELD_BYTES = 2 * 2**30
_KNOWN_FIELDS = ("logits", "loss", "past_key_values")
_LIBRARIES = ("transformers", "torch", "collections", "builtins")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputClass:
    """A `ModelOutput` that a forward gave.

    Args:
        name: of its nearest class that a library defines.
        fields: names of those that are not None, in order, after commas.
    """

    name: str
    fields: str


Answers = dict[str, "torch.Tensor | str | OutputClass"]


def to_tensors(probe: Probe, model: Any) -> dict[str, "torch.Tensor"]:
    """Put a probe's inputs on the model's device, pixels and sound in its dtype."""
    return inputs_to_tensors(probe.inputs, model)


def inputs_to_tensors(inputs: Inputs, model: Any) -> dict[str, "torch.Tensor"]:
    """Put inputs on the model's device, those of floating point in its dtype."""
    import torch

    device, dtype = device_of(model), dtype_of(model)
    tensors = {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def labels_of(probe: Probe, model: Any) -> dict[str, "torch.Tensor"]:
    """The argument `labels` of a forward on the whole probe; nothing where it has none."""
    return {} if probe.labels is None else inputs_to_tensors({"labels": probe.labels}, model)


def cache_argument(probe: Probe, *, wanted: bool) -> dict[str, bool]:
    """The argument `use_cache` of a forward; nothing where it takes none."""
    return {} if probe.use_cache is None else {"use_cache": wanted and probe.use_cache}


def bytes_to_hold(model: Any, num_tokens: int) -> int:
    """What outputs may take while they wait for their digest: no more than head and loss are about to take.

    They are let go before the head runs, so that the peak stays where it is: at the logits and their float32 copy.
    """
    at_the_peak = num_tokens * vocab_size_of(model) * (dtype_of(model).itemsize + 4)
    return min(max(at_the_peak, MAX_HELD_BYTES), _MOST_HELD_BYTES)


def fingerprint_trace(model: Any, probe: Probe, *, seed: int = 0) -> dict[str, Any]:
    """Run one probe and observe its trace alone."""
    recording = Recording(f"{probe.name}/", max_held_bytes=0)
    with Tracer(model) as tracer:
        run_probe(model, tracer, probe, to_tensors(probe, model), recording, seed=seed)
    return recording.section


def run_probe(
    model: Any, tracer: Tracer, probe: Probe, inputs: Mapping[str, "torch.Tensor"], recording: Recording, *, seed: int
) -> Answers:
    """Run one probe under a trace; return logits, loss and KV cache by location."""
    with tracer.record(recording):
        return ask_probe(model, probe, inputs, seed=seed)


def ask_probe(model: Any, probe: Probe, inputs: Mapping[str, "torch.Tensor"], *, seed: int) -> Answers:
    """Run one probe; return logits, loss and KV cache by location, and the classes of the output and the cache."""
    import torch

    torch.manual_seed(seed)
    answers: Answers = {}
    with torch.no_grad():
        prompt = dict(inputs)
        labels = labels_of(probe, model)
        if probe.decode_steps:
            prompt.update({name: inputs[name][:, : -probe.decode_steps] for name in probe.per_token})
            labels = {name: tensor[:, : -probe.decode_steps] for name, tensor in labels.items()}
        output = model(**prompt, **labels, **cache_argument(probe, wanted=True))
        answers.update(answers_of(output, "logits", "loss"))
        cache = field_of(output, "past_key_values")
        answers.update({"output_type": type_of_output(output), "cache_type": type_of(cache)})
        for step in range(probe.decode_steps if cache is not None else 0):
            position = prompt["input_ids"].shape[1] + step
            output = model(
                input_ids=inputs["input_ids"][:, position : position + 1],
                attention_mask=inputs["attention_mask"][:, : position + 1],
                past_key_values=cache,
                use_cache=True,
            )
            answers.update(answers_of(output, "logits", prefix="decoded_", suffix=f"[{step}]"))
            cache = field_of(output, "past_key_values")
    answers.update(cache_answers(cache))
    return answers


def ask_rows(model: Any, probe: Probe, *, seed: int) -> Answers:
    """Run each row of a batch alone, without padding and without a cache; return its logits."""
    import torch

    answers: Answers = {}
    for i in range(probe.num_rows):
        torch.manual_seed(seed)
        with torch.no_grad():
            output = model(**inputs_to_tensors(probe.row(i), model), **cache_argument(probe, wanted=False))
        answers.update(answers_of(output, "logits", prefix=f"row[{i}]/"))
    return answers


def ask_embeds(model: Any, probe: Probe, *, seed: int) -> Answers:
    """Run a probe with the embeddings of its ids in place of them; return its logits."""
    import torch

    embed = input_embeddings_of(model)
    if embed is None:
        return {"embeds/logits": NO_EMBEDS}
    inputs = to_tensors(probe, model)
    torch.manual_seed(seed)
    with torch.no_grad():
        embeds = embed(inputs.pop("input_ids"))
        output = model(inputs_embeds=embeds, **inputs, **cache_argument(probe, wanted=False))
    return answers_of(output, "logits", prefix="embeds/")


def ask_loss_by_count(model: Any, probe: Probe, *, seed: int) -> Answers:
    """Run a probe with twice the number of its targets as `num_items_in_batch`, as a trainer does that accumulates."""
    import torch

    inputs = {**to_tensors(probe, model), **labels_of(probe, model)}
    num_targets = int((inputs["labels"][:, 1:] != IGNORED_LABEL).sum())
    torch.manual_seed(seed)
    with torch.no_grad():
        output = model(**inputs, num_items_in_batch=2 * num_targets, **cache_argument(probe, wanted=False))
    return {"loss_by_count": _tensor_or_word(field_of(output, "loss"))}


def ask_untraced(model: Any, probe: Probe, *, seed: int) -> Answers:
    """Run a probe as `ask_probe` does, for a model that takes another way where no hook looks on."""
    answers = ask_probe(model, probe, to_tensors(probe, model), seed=seed)
    return {f"untraced/{name}": answer for name, answer in answers.items() if not name.startswith("cache")}


def type_of(value: Any) -> str:
    """The nearest class that a library or Python defines: a subclass of one's own is as good as it."""
    if value is None:
        return NONE
    for kind in type(value).__mro__[:-1]:  # the last is object
        if kind.__module__.partition(".")[0] in _LIBRARIES:
            return kind.__name__
    return type(value).__name__


def type_of_output(output: Any) -> str | OutputClass:
    """The class of what a forward gave, and which of its fields is one thing as an attribute and another as an item."""
    from transformers.utils import ModelOutput

    apart = []
    if isinstance(output, Mapping):
        apart = [name for name in _KNOWN_FIELDS if output.get(name) is not field_of(output, name)]
    if isinstance(output, ModelOutput) and not apart:
        return OutputClass(name=type_of(output), fields=", ".join(sorted(output)))
    return type_of(output) + "".join(f", its item {name} is not its attribute" for name in apart)


def takes(model: Any, name: str) -> bool:
    """Whether a forward takes an argument of this name."""
    parameters = inspect.signature(model.forward).parameters.values()
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def input_embeddings_of(model: Any) -> Any:
    """What embeds a model's token ids; None where its forward takes no embeddings, or it names nothing that makes them.

    Raises:
        Exception: whatever the model's own `get_input_embeddings` raises.
    """
    if not takes(model, "inputs_embeds") or not hasattr(model, "get_input_embeddings"):
        return None
    return model.get_input_embeddings()


def field_of(output: Any, name: str) -> Any:
    """A field of what a forward gave, as callers read it: an attribute, or of a plain dict an item; None without."""
    if hasattr(output, name):
        return getattr(output, name)
    return output.get(name) if isinstance(output, Mapping) else None


def answers_of(output: Any, *names: str, prefix: str = "", suffix: str = "") -> Answers:
    """Take fields of an output; of one that has none of the known fields, as a tuple, every tensor."""
    answers: Answers = {f"{prefix}{name}{suffix}": _tensor_or_word(field_of(output, name)) for name in names}
    if all(field_of(output, name) is None for name in _KNOWN_FIELDS):
        tensors = list(iterate_tensors(output))
        answers.update({f"{prefix}output{suffix}{path}": tensor for path, tensor in tensors})
    return answers


def _tensor_or_word(value: Any) -> "torch.Tensor | str":
    import torch

    if isinstance(value, torch.Tensor):
        return value
    return NONE if value is None else type(value).__name__


def cache_answers(cache: Any) -> Answers:
    """Keys and values of each layer of a cache, or in words that there are none."""
    if cache is None:
        return {"cache": NONE}
    answers: Answers = {}
    decoders = getattr(cache, "self_attention_cache", cache)  # of a decoder that also looks at an encoder
    for name, part in (("cache", decoders), ("cross_cache", getattr(cache, "cross_attention_cache", None))):
        for i, (keys, values) in enumerate(_layers_of(part)):
            answers[f"{name}[{i}].keys"], answers[f"{name}[{i}].values"] = (
                _tensor_or_word(keys),
                _tensor_or_word(values),
            )
    return answers or {"cache": f"{type(cache).__name__} without layers"}


def _layers_of(cache: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values of each layer: of transformers' caches, and of what was one before, two lists or pairs."""
    layers = getattr(cache, "layers", None)
    if layers is None:
        keys, values = getattr(cache, "key_cache", None), getattr(cache, "value_cache", None)
        both = isinstance(keys, list) and isinstance(values, list)
        layers = list(zip_longest(keys, values)) if both else cache
    for layer in layers if isinstance(layers, (list, tuple)) else ():
        if isinstance(layer, (list, tuple)) and len(layer) >= 2:
            yield layer[0], layer[1]
        else:
            yield getattr(layer, "keys", None), getattr(layer, "values", None)
