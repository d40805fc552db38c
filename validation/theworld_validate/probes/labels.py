"""Labels for a probe: what the loss of a class is of, told by the class's name, as transformers names its heads.

In: a family, and a probe's inputs. Out: an array as the forward takes it; None where it takes no labels, or they are of
a kind that no general probe has (boxes, masks): the gradients are then of a stand-in loss.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from theworld_validate.probes.probe import IGNORED_LABEL, Inputs

if TYPE_CHECKING:
    from theworld_validate.probes.family import Image

_A_ROW = ("ForSequenceClassification", "ForImageClassification", "ForAudioClassification", "ForVideoClassification")
_A_TOKEN = ("ForCausalLM", "ForMaskedLM", "LMHeadModel", "ForConditionalGeneration", "GenerationDecoder", "LMHead")


def labels_for(family: Any, inputs: Inputs, *, image: "Image | None") -> np.ndarray | None:
    """The argument `labels` for these inputs.

    Args:
        family: a `general.General`.
        image: the image among them, whose placeholders are no targets.

    Returns:
        int64, (B,) for one class a row, (B, L) for one a token.
    """
    name = family.model_class.__name__
    if "labels" not in family.takes:
        return None
    num_rows = len(next(iter(inputs.values())))
    if name.endswith(_A_ROW):
        return np.arange(num_rows, dtype=np.int64) % family.config.num_labels
    if "decoder_input_ids" in inputs:
        return inputs["decoder_input_ids"]
    if name.endswith("ForTokenClassification"):
        return inputs["input_ids"] % family.config.num_labels
    if name.endswith("ForCTC"):
        return np.stack([family.ids(4) for _ in range(num_rows)])
    if "input_ids" not in inputs or not name.endswith(_A_TOKEN):
        return None
    is_target = inputs["attention_mask"] == 1 if "attention_mask" in inputs else np.ones_like(inputs["input_ids"]) == 1
    if image is not None and image.image_token is not None:
        is_target &= inputs["input_ids"] != image.image_token
    return np.where(is_target, inputs["input_ids"], IGNORED_LABEL)
