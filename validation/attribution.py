"""From a difference to its likely cause, and how to mend it.

In: a finding's code, location and two values. Out: (cause, remedy), or (None, None) where the evidence
does not tell.
"""

from typing import Any

_BY_CODE: dict[str, tuple[str, str]] = {
    "buffers.dtype": (
        "the model was cast after it was built: .to(dtype), .half() or .bfloat16() also cast buffers that must stay "
        "float32",
        "load with from_pretrained(dtype=...) and do not cast the model afterwards",
    ),
    "buffers.digest": (
        "the buffer was computed from another config, or never computed after the model was made on the meta device",
        "let from_pretrained build the buffers; compare the rope and scaling fields of the two configs",
    ),
    "buffers.persistent": (
        "register_buffer was called with another persistent= value",
        "keep the base class's flag, or files saved from the model will differ",
    ),
    "parameters.digest": (
        "the weight's bits are not the checkpoint's: changed after loading, re-initialised, or from another file",
        "load the checkpoint again with from_pretrained; look for code that writes to the weight",
    ),
    "parameters.dtype": (
        "the parameter was loaded or cast to another dtype",
        "pass dtype= to from_pretrained, for sub-configs too, and do not cast afterwards",
    ),
    "parameters.missing": (
        "the module that holds the parameter is gone or renamed",
        "keep the base class's module names",
    ),
    "parameters.extra": (
        "a parameter was added while the world branch is off",
        "build added modules only when the branch is on",
    ),
    "parameters.requires_grad": (
        "a freeze setting was applied",
        "leave requires_grad as from_pretrained leaves it while the branch is off",
    ),
    "parameters.tied_to": (
        "the tie between the embedding and the head was made or lost",
        "call tie_weights() after replacing either, and keep tie_word_embeddings",
    ),
    "modules.training": (
        "the model is in train() mode; from_pretrained returns it in eval() mode",
        "call model.eval() before comparing or serving",
    ),
    "modules.hooks": (
        "hooks were left on a module (gradient_checkpointing_enable, accelerate and PEFT leave some)",
        "remove the hook's handle, or load the model afresh",
    ),
    "modules.attn_implementation": (
        "another attention implementation was chosen for this part of the model",
        "pass attn_implementation to from_pretrained, for every sub-config",
    ),
    "globals.value": (
        "loading the candidate changed torch's global state or drew random numbers",
        "restore the flag after loading; draw from a torch.Generator of your own",
    ),
}
_BY_LAYER: dict[str, tuple[str, str]] = {
    "config": (
        "the two configurations are not the same",
        "load both from one checkpoint and change no field",
    ),
    "trace": (
        "the module's inputs or its own state differ from here on",
        "look at the state findings first: a weight, buffer, mode or config difference comes before its effect",
    ),
    "outputs": (
        "an earlier module's output differs",
        "look at the first finding of the trace",
    ),
    "generation": (
        "logits or random state differ",
        "look at the trace, outputs and generation_config findings first",
    ),
}


def attribute(code: str, location: str, actual: Any) -> tuple[str | None, str | None]:
    """Name the likely cause of one finding, and its remedy."""
    if code == "buffers.dtype" and "inv_freq" in location:
        cause, remedy = _BY_CODE[code]
        return f"{cause}; rotary frequencies in {actual} shift every position's angle", remedy
    return _BY_CODE.get(code) or _BY_LAYER.get(code.split(".", maxsplit=1)[0]) or (None, None)
