"""The table of families in reports/families: a plain subclass, and five faults, each caught and placed or not.

In: nothing; `python -m benchmarks.families [CLASS ...]`. Out: the table, put between the two marks of the page. It is
no part of the test suite for its time; the suite tries a few of the same families by the same code.
"""

import sys
import tempfile
from pathlib import Path

from tests.theworld_validate.families.trials import FAULTS, try_faults, try_plain_subclass
from theworld_validate.results import InputError, Status
from theworld_validate.subjects.tiny_models import write_tiny

PAGE = Path(__file__).parent.parent / "reports" / "families" / "README.md"
START, END = "<!-- families: made by benchmarks/families.py -->", "<!-- end of families -->"
CLASSES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3NextForCausalLM",
    "Gemma2ForCausalLM",
    "Phi3ForCausalLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "DeepseekV3ForCausalLM",
    "MambaForCausalLM",
    "LlavaForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "PaliGemmaForConditionalGeneration",
    "SmolVLMForConditionalGeneration",
    "Gemma3ForConditionalGeneration",
    "T5ForConditionalGeneration",
    "BartForConditionalGeneration",
    "BertForMaskedLM",
    "ModernBertForMaskedLM",
    "WhisperForConditionalGeneration",
    "ViTForImageClassification",
    "CLIPModel",
)


def row(name: str, folder: Path) -> str:
    """One family's row: what was asked of it, and how each trial was seen."""
    write_tiny(name, folder)
    verdict, roots, reason = try_plain_subclass(name, folder)
    if verdict is Status.PASSED:
        plain = "passes"
    elif roots:
        plain = f"fails: {roots[0].message}"
    else:
        plain = f"{verdict}: {reason}"
    trials = {trial.fault: trial for trial in try_faults(name, folder)}
    cells = []
    for fault in FAULTS:
        trial = trials.get(fault)
        if trial is None:
            cells.append("one attention only")
        elif trial.placed and trial.root is not None:
            cells.append(f"`{trial.root.location}`")
        else:
            cells.append(f"**not placed**: {trial.root.key if trial.root else 'not seen'}")
    return f"| {name} | {plain} | {' | '.join(cells)} |"


def main(names: list[str]) -> None:
    """Make the rows, one after the other, and put them into the page."""
    head = f"| class | plain subclass | {' | '.join(fault.replace('_', ' ') for fault in FAULTS)} |"
    lines = [head, "|" + "---|" * (2 + len(FAULTS))]
    with tempfile.TemporaryDirectory(prefix="theworld-families-") as scratch:
        for name in names or CLASSES:
            try:
                lines.append(row(name, Path(scratch, name)))
            except (InputError, AssertionError) as error:
                lines.append(f"| {name} | not tried: {error} |" + " |" * len(FAULTS))
            print(lines[-1], flush=True)
    if not names:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        after = rest.partition(END)[2]
        PAGE.write_text("\n".join([f"{before}{START}", "", *lines, "", f"{END}{after}"]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
