"""What else a caller may ask of a forward: fewer arguments than a probe has, and others.

In: a loaded model and a probe of text. Out: `Answers` at "arguments/WAY...": tensors, the classes of output and cache,
and in words what a model does not have or refuses.
"""

from typing import TYPE_CHECKING, Any

from theworld_validate.fingerprint.capturing import without_capturing_hooks_after
from theworld_validate.fingerprint.forward import (
    NONE,
    Answers,
    cache_answers,
    cache_argument,
    field_of,
    takes,
    to_tensors,
    type_of,
    type_of_output,
)
from theworld_validate.fingerprint.trace import iterate_tensors
from theworld_validate.probes.probe import Probe

if TYPE_CHECKING:
    import torch

_SHIFT = 3  # positions that a prompt is moved by
_LISTED = ("hidden_states", "attentions")  # fields of an output that hold a tensor a layer
_MAY_BE_LEFT_OUT = ("attention_mask", "token_type_ids", "mm_token_type_ids")
_CACHE = ".past_key_values"  # is read by `cache_answers`, whatever its class is
_KEPT = 2  # positions whose logits are asked for by number


def ask_arguments(model: Any, probe: Probe, *, seed: int) -> Answers:
    """Run a probe with what else a caller may ask for; return hidden states, the tuple's logits, and so on.

    Attentions are asked for where they exist, with eager attention.
    """
    import torch

    inputs = to_tensors(probe, model)
    ids = inputs["input_ids"]
    later = torch.arange(_SHIFT, _SHIFT + ids.shape[1], device=ids.device).expand_as(ids)
    asked: list[tuple[str, str, Any]] = [
        ("hidden_states", "output_hidden_states", True),
        ("tuple", "return_dict", False),
        ("positions", "position_ids", later),
    ]
    if getattr(getattr(model, "config", None), "_attn_implementation", None) == "eager":
        asked.append(("attentions", "output_attentions", True))
    answers: Answers = {}
    for name, argument, value in asked:
        if not takes(model, argument):
            answers[f"arguments/{name}"] = f"{NONE}: the model takes no {argument}"
            continue
        torch.manual_seed(seed)
        with torch.no_grad(), without_capturing_hooks_after(model):
            output = model(**inputs, **{argument: value}, **cache_argument(probe, wanted=False))
        tensors = iterate_tensors(field_of(output, name) if name in _LISTED else output)
        found = {f"arguments/{name}{path}": tensor for path, tensor in tensors}
        answers.update(found or {f"arguments/{name}": NONE})
        answers[f"arguments/{name}.output_type"] = type_of_output(output)
    return {**answers, **_ask_bare(model, inputs, seed=seed), **_ask_kept_logits(model, probe, inputs, seed=seed)}


def _ask_bare(model: Any, inputs: "dict[str, torch.Tensor]", *, seed: int) -> Answers:
    """Call the model as in a first try: no mask and no word of a cache; token ids alone by their position."""
    left = {name: tensor for name, tensor in inputs.items() if name not in _MAY_BE_LEFT_OUT}
    ids = (left.pop("input_ids"),) if len(left) == 1 else ()
    output = _called(model, *ids, seed=seed, **left)
    if isinstance(output, str):
        return {"arguments/bare": output}
    cache = field_of(output, "past_key_values")
    tensors = iterate_tensors(output)
    answers: Answers = {f"arguments/bare{path}": tensor for path, tensor in tensors if not path.startswith(_CACHE)}
    answers.update({f"arguments/bare.{name}": answer for name, answer in cache_answers(cache).items()})
    return {
        **answers,
        "arguments/bare.output_type": type_of_output(output),
        "arguments/bare.cache_type": type_of(cache),
    }


def _ask_kept_logits(model: Any, probe: Probe, inputs: "dict[str, torch.Tensor]", *, seed: int) -> Answers:
    """Ask for the logits of the last positions by their number, and of some positions by a tensor of indices."""
    import torch

    ids = inputs["input_ids"]
    answers: Answers = {}
    ways = (("last_logits", _KEPT), ("chosen_logits", torch.tensor([1, ids.shape[1] // 2], device=ids.device)))
    for name, kept in ways:
        output = _called(model, seed=seed, **inputs, logits_to_keep=kept, **cache_argument(probe, wanted=False))
        if isinstance(output, str):
            answers[f"arguments/{name}"] = output
        else:
            answers.update({f"arguments/{name}{path}": tensor for path, tensor in iterate_tensors(output)})
    return answers


def _called(model: Any, *inputs: Any, seed: int, **arguments: Any) -> Any:
    """What a call gives; that it is refused is an answer too, for models of many families refuse such calls.

    Of the error only its kind is told: its text names the class, and a subclass has another.
    """
    import torch

    torch.manual_seed(seed)
    try:
        with torch.no_grad():
            return model(*inputs, **arguments)
    except torch.OutOfMemoryError:  # says nothing of the model
        raise
    except Exception as error:  # whatever a model's own code raises
        return f"{NONE}: raises {type(error).__name__}"
