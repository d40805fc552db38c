"""The safety checker of a rollout, which is the user's to choose.

In: what `RolloutConfig.safety_checker` holds. Out: the guardrails that were called, or a `ValueError`.
"""

from typing import Any

from theworld.checkpoints.error_text import one_line
from theworld.rollout_config import COSMOS_GUARDRAIL, NOT_CHOSEN, Guardrail, RolloutConfig

_NO_CHECKER = "safety_checker=None: no checker was chosen"
_NO_TEXT = "prompt_embeds were given, so there was no text to look at"
_NO_VIDEO = "latents were not decoded, so there was no video to look at"


def resolve_checker(chosen: Any) -> Any:
    """Return the checker, or None where none is wanted.

    Raises:
        ValueError: if nothing was chosen, cosmos_guardrail is not installed, or the object cannot check a text.
    """
    if chosen is None:
        return None
    if chosen is NOT_CHOSEN:
        raise ValueError(
            "a rollout needs a word on its safety checker: RolloutConfig(safety_checker='cosmos_guardrail'), one of "
            "your own, or safety_checker=None, which the NVIDIA Open Model License leaves to your responsibility"
        )
    if chosen == COSMOS_GUARDRAIL:
        return _cosmos_guardrail()
    if not callable(getattr(chosen, "check_text_safety", None)):
        raise ValueError(
            f"RolloutConfig.safety_checker is a {type(chosen).__name__} without check_text_safety(prompt) -> bool; "
            "give 'cosmos_guardrail', an object that has it, or None"
        )
    return chosen


def _cosmos_guardrail() -> Any:
    try:
        from cosmos_guardrail import CosmosSafetyChecker  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise ValueError(
            "safety_checker='cosmos_guardrail' needs the package: pip install 'theworld[guardrail]'"
        ) from error
    return CosmosSafetyChecker()


def check_text(checker: Any, config: RolloutConfig, device: Any) -> tuple[Guardrail, ...]:
    """Have the checker look at the prompt, on `device` if it can be moved, and say which guardrails were called.

    Raises:
        ValueError: if it refuses the prompt.
    """
    if checker is None:
        return tuple(Guardrail(name=name, was_called=False, reason=_NO_CHECKER) for name in ("text", "video"))
    video = Guardrail(name="video", was_called=False, reason=_NO_VIDEO)
    if config.prompt is None:
        return Guardrail(name="text", was_called=False, reason=_NO_TEXT), video
    _move(checker, device)
    is_safe = checker.check_text_safety(config.prompt)
    _move(checker, "cpu")
    if not is_safe:
        raise ValueError(f"the safety checker refuses the prompt {one_line(config.prompt, 100)!r}; ask for another")
    return Guardrail(name="text", was_called=True, reason=None), video


def _move(checker: Any, device: Any) -> None:
    """Move a checker that can be moved: a user's own need not know of devices."""
    if callable(getattr(checker, "to", None)):
        checker.to(device)
