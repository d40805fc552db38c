"""What a checkpoint is of: its config, the class that `architectures` names, and what loads it.

In: a local folder or a hub id. Out: an `Architecture`, or an `InputError` of one line.
"""

from dataclasses import dataclass
from typing import Any

from theworld_validate.subjects.checkpoints import config_values_of, read_config, said_to_the_user
from theworld_validate.subjects.installed_classes import find_class, is_the_worlds
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A checkpoint's config and class.

    Args:
        config: of transformers, or a `TheWorldConfig`.
        model_class: the class that the weights are of; for Gemma 3 and TheWorld the one that both share.
        base_target: "module:name" of the class that anybody would load it with.
        own_target: the same of what it is loaded by here unless told otherwise: `TheWorld` for Gemma 3.
    """

    config: Any
    model_class: Any
    base_target: str
    own_target: str

    @property
    def is_the_worlds(self) -> bool:
        """Whether TheWorld can load it."""
        return self.own_target == CANDIDATE_TARGET


def architecture_of(checkpoint: str) -> Architecture:
    """Read a checkpoint's config, and find its class among those that are installed.

    Raises:
        InputError: if there is no such class, a field is wrong, or the hub cannot be reached.
    """
    values = config_values_of(checkpoint)
    if values is None or is_the_worlds(values):
        from transformers import Gemma3ForConditionalGeneration

        return Architecture(
            config=read_config(checkpoint),
            model_class=Gemma3ForConditionalGeneration,
            base_target=REFERENCE_TARGET,
            own_target=CANDIDATE_TARGET,
        )
    with said_to_the_user():
        config, model_class = find_class(values, where=f"{checkpoint}/config.json")
    target = f"transformers:{model_class.__name__}"
    return Architecture(config=config, model_class=model_class, base_target=target, own_target=target)
