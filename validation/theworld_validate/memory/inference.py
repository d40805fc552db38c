"""One call that generates, with a clip, and with Cosmos looking ahead where the cell says so.

In: a loaded model, a cell's inputs, and who is told of phases. Out: nothing; what matters is what it allocates on its
way. Measurement and prediction run this same code.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from theworld_validate.memory.cells import GENERATE, ROLLOUT, Cell

# In their order; "text" and "denoise" come again for each clip of a batch.
CALL_PHASES = {GENERATE: ("prefill", "decode"), ROLLOUT: ("encode", "text", "denoise", "prefill", "decode")}
_GUIDANCE_SCALE = 7.0  # diffusers' own


def run_call(
    model: Any,
    inputs: dict[str, Any],
    cell: Cell,
    *,
    on_phase: Callable[[str], None],
    on_forward: Callable[[], None] = lambda: None,
    on_cache: Callable[[Any], None] = lambda cache: None,
    **changes: Any,
) -> None:
    """Generate `new_tokens`, greedily, by the model's own `generate`.

    Args:
        inputs: of `cell_inputs.make_inputs`.
        on_phase: told each phase's name as it begins: see `CALL_PHASES`.
        on_forward: told before each forward pass of the whole model.
        on_cache: given the cache after each.
        changes: fields of the `RolloutConfig`: its prompt, and what a prediction has otherwise.
    """
    import torch

    from theworld import RolloutConfig

    options: dict[str, Any] = {
        "max_new_tokens": cell.new_tokens,
        "min_new_tokens": cell.new_tokens,
        "do_sample": False,
        "use_cache": True,
    }
    if cell.task == ROLLOUT:
        asked: dict[str, Any] = {
            "prompt": "What happens next.",
            "safety_checker": None,
            "num_inference_steps": cell.denoising_steps,
            "guidance_scale": _GUIDANCE_SCALE if cell.guidance else 1.0,
            "offload": cell.offload,
        }
        options |= {"num_world_steps": cell.world_steps, "rollout": RolloutConfig(**{**asked, **changes})}
        on_phase("encode")
    else:
        on_phase("prefill")
    with torch.no_grad(), _phases_told(model, on_phase, on_forward, on_cache):
        model.generate(**inputs, **options)


@contextmanager
def _phases_told(
    model: Any, on_phase: Callable[[str], None], on_forward: Callable[[], None], on_cache: Callable[[Any], None]
) -> Iterator[None]:
    from theworld.world_rollout import CosmosWorldModel

    embed = CosmosWorldModel.embed
    num_forwards = 0

    def told(world_model: Any, *args: Any) -> Any:
        on_phase("text")
        made = embed(world_model, *args)
        on_phase("denoise")
        return made

    def before(_module: Any, _args: Any) -> None:
        nonlocal num_forwards
        num_forwards += 1
        on_phase("prefill" if num_forwards == 1 else "decode")
        on_forward()

    handles = [
        model.register_forward_pre_hook(before),
        model.register_forward_hook(lambda _module, _args, outputs: on_cache(outputs.past_key_values)),
    ]
    try:
        with mock.patch.object(CosmosWorldModel, "embed", told):
            yield
    finally:
        for handle in handles:
            handle.remove()
