"""What loading does to dtypes, buffers and outputs: the experiments behind the notes' statements.

In: a subject. Out: `LoadingFacts`, measured here and now on the checkpoint that the subject names.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from theworld_validate.subjects.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingFacts:
    """Measured facts; dtypes as torch names them, without "torch.".

    Args:
        loaded_inv_freq: dtypes of the rotary frequencies after from_pretrained in bfloat16.
        rebuilt_inv_freq: the same after constructor, load_state_dict and .to(bfloat16).
        rebuilt_weights_equal: whether that model's parameters have the bits of the loaded one's.
        rebuilt_max_logit_difference: between the two, on one prompt.
        state_dict_buffers: how many rotary buffers are in the state_dict.
        constructed: dtypes of the parameters that the constructor makes for a config with dtype bfloat16.
        loaded: dtypes of the parameters after from_pretrained in bfloat16.
        gradients: dtypes of the gradients of one step of that model.
        head_is_tied: whether the head's weight is the embedding's.
    """

    loaded_inv_freq: str
    rebuilt_inv_freq: str
    rebuilt_weights_equal: bool
    rebuilt_max_logit_difference: float
    state_dict_buffers: int
    constructed: str
    loaded: str
    gradients: str
    head_is_tied: bool


def measure_loading(subject: Subject) -> LoadingFacts:
    """Load the base class in bfloat16, rebuild it by hand, and run one step.

    Raises:
        InputError: if the subject cannot be loaded.
    """
    import torch
    from transformers import Gemma3ForConditionalGeneration

    model = subject.load()
    dtype = torch.bfloat16
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device(model.device):
            rebuilt: Any = Gemma3ForConditionalGeneration(model.config)
    finally:
        torch.set_default_dtype(before)
    constructed = _dtypes(rebuilt.parameters())
    rebuilt.load_state_dict(model.state_dict(), strict=False)
    rebuilt = rebuilt.to(device=model.device, dtype=dtype).eval()
    own = dict(model.named_parameters())
    equal = all(torch.equal(parameter, own[name]) for name, parameter in rebuilt.named_parameters())
    ids = torch.arange(10, 74, device=model.device)[None]
    with torch.no_grad():
        logits = [one(input_ids=ids).logits.float() for one in (model, rebuilt)]
    rebuilt_inv_freq = _dtypes(_rotary(rebuilt))
    del rebuilt
    model.zero_grad(set_to_none=True)
    model(input_ids=ids, labels=ids, token_type_ids=torch.zeros_like(ids)).loss.backward()
    gradients = _dtypes(p.grad for p in model.parameters() if p.grad is not None)
    return LoadingFacts(
        loaded_inv_freq=_dtypes(_rotary(model)),
        rebuilt_inv_freq=rebuilt_inv_freq,
        rebuilt_weights_equal=equal,
        rebuilt_max_logit_difference=float((logits[0] - logits[1]).abs().max()),
        state_dict_buffers=sum("inv_freq" in name for name in model.state_dict()),
        constructed=constructed,
        loaded=_dtypes(model.parameters()),
        gradients=gradients,
        head_is_tied=model.lm_head.weight is model.get_input_embeddings().weight,
    )


def _rotary(model: Any) -> list[Any]:
    return [buffer for name, buffer in model.named_buffers() if "inv_freq" in name]


def _dtypes(tensors: Iterable[Any]) -> str:
    return ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
