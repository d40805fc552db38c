"""One loaded model with its branch on, its processor and a clip: what every check of the world path asks.

In: prompts and clips. Out: inputs on the model's device, what the model makes of them, and a check's result.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from theworld_validate.results import CheckResult, Finding, Status

# Another shape may take other kernels: bfloat16 keeps 8 bits, float32 24.
TOLERANCE = {"bfloat16": 2**-4, "float16": 2**-7, "float32": 2**-14}
PROMPT = "A clip: <start_of_world> What happens next?"
Outcome = tuple[dict[str, Any], list[Finding]]  # measurements, findings


@dataclass(frozen=True, kw_only=True)
class LoadedPath:
    """What is asked.

    Args:
        model: a `TheWorld` with its branch on.
        processor: its `TheWorldProcessor`.
        clip: (3, F, height, width), float, in [-1, 1].
        dtype: of the model's weights.
    """

    model: Any
    processor: Any
    clip: Any
    dtype: str

    def ask(self, prompts: list[str], clips: list[Any]) -> dict[str, Any]:
        """Process prompts and clips, on the model's device."""
        features = self.processor(text=prompts, world_frames=clips, padding=True, return_tensors="pt")
        return {name: tensor.to(self.model.device) for name, tensor in features.items()}

    def last_logits(self, clip: Any) -> Any:
        """The logits of the prompt's last token, (vocabulary,), float32."""
        import torch

        with torch.no_grad():
            return self.model(**self.ask([PROMPT], [clip])).logits[0, -1].float()

    def logits_that_differ(self, clip: Any, other: Any, *, code: str, message: str, cause: str, remedy: str) -> Outcome:
        """Two clips must give other last logits; the words are of the finding where they do not."""
        difference = float((self.last_logits(clip) - self.last_logits(other)).abs().max())
        findings = []
        if not difference > 0:
            findings.append(
                Finding(
                    code=code,
                    location="lm_head",
                    message=message,
                    expected="different logits",
                    actual="equal logits",
                    cause=cause,
                    remedy=remedy,
                )
            )
        return {"max_abs_logit_difference": difference}, findings


def run_check(check_id: str, check: Callable[[], Outcome]) -> CheckResult:
    """Run one check, and time it: without a finding it passed. What it raises is its own; the others stand."""
    from theworld.checkpoints.error_text import summary

    started = time.perf_counter()
    try:
        measurements, findings = check()
    except ValueError as error:  # the model refuses: its inputs are right, so that is a finding
        measurements, findings = {}, [_refusal(check_id, summary(error))]
    except Exception as error:
        reason = f"{type(error).__name__}: {summary(error)}"
        return CheckResult(
            id=check_id, status=Status.ERROR, reason=reason, seconds=time.perf_counter() - started, measurements={}
        )
    return CheckResult(
        id=check_id,
        status=Status.FAILED if findings else Status.PASSED,
        seconds=time.perf_counter() - started,
        measurements=measurements,
        findings=tuple(findings),
    )


def _refusal(check_id: str, said: str) -> Finding:
    return Finding(
        code="world.refused",
        location=check_id,
        message=f"the model refuses what this check asks: {said}",
        expected="an answer",
        actual="an error",
        cause="weights that overflow or are damaged, or a part of the repository that is another model's",
        remedy="read what it says; theworld-validate files audits the files",
    )
