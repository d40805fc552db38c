"""What a training step can do to take less memory: a loss in pieces, and checkpointing that leaves no hook.

A mixin for Gemma 3's class: it changes nothing until it is told to.
"""

# N tokens of the batch, R of them with a label, V vocabulary, D hidden size

import warnings
from typing import TYPE_CHECKING, Any

import torch
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.models.gemma3.modeling_gemma3 import Gemma3CausalLMOutputWithPast, Gemma3ForConditionalGeneration
from transformers.utils import can_return_tuple

from theworld.levers import chunked_loss
from theworld.levers.chunked_loss import IGNORED_LABEL, check_chunks, chunked_cross_entropy, rows_that_count

_Base = Gemma3ForConditionalGeneration if TYPE_CHECKING else object


class MemoryLevers(_Base):
    """The chunked loss, and gradient checkpointing."""

    _chunked_loss: tuple[int, str] | None = None
    _checkpointing_hooks: tuple[Any, ...] = ()

    def set_chunked_loss(self, chunk_size: int | None, *, backend: str = "plain") -> str | None:
        """Compute the training loss in pieces, so that the logits of a whole prompt never exist at once.

        The outputs of a forward with labels then have no logits, and the head sees only tokens that have a label.
        Loss and gradients are those of the plain path within rounding. `shift_labels`, `ignore_index`,
        `num_items_in_batch` and `return_dict` mean what they mean there; a `loss_function` that was set is refused.

        Args:
            chunk_size: tokens a piece; None switches it off.
            backend: "plain", the fastest of those measured; "torch" (from 2.13 on), or "liger".

        Returns:
            The backend that is used; None if it is off.

        Raises:
            ValueError: for a backend that is not here, or a chunk size below 1.
        """
        if chunk_size is None:
            self._chunked_loss = None
            return None
        check_chunks(chunk_size, backend)
        self._chunked_loss = (chunk_size, backend)
        return backend

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Recompute each layer's activations in the backward pass; non-reentrant unless told otherwise.

        transformers also makes the embeddings' outputs require a gradient, for reentrant checkpointing. The
        non-reentrant kind needs no such hooks, and they would have frozen towers run backward: they are removed.
        """
        chosen = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}
        self._remove_checkpointing_hooks()  # of an earlier call
        callers = self._input_hooks()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the newer name calls this one
            super().gradient_checkpointing_enable(chosen, **kwargs)
        # transformers forgets the handles of hooks that were there.
        self._checkpointing_hooks = tuple(hook for hook in self._input_hooks() if hook not in callers)
        self._require_grads_hooks = [*callers, *self._checkpointing_hooks]
        if not chosen["use_reentrant"] and not getattr(self, "_hf_peft_config_loaded", False):
            self._remove_checkpointing_hooks()

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again, and leave none of checkpointing's hooks behind; a caller's own stay."""
        self._set_gradient_checkpointing(enable=False)
        self._remove_checkpointing_hooks()

    def _remove_checkpointing_hooks(self) -> None:
        """Remove the hooks that checkpointing set, and no other."""
        if not self._checkpointing_hooks:
            return
        for hook in self._checkpointing_hooks:
            hook.remove()
        self._require_grads_hooks = [hook for hook in self._input_hooks() if hook not in self._checkpointing_hooks]
        self._checkpointing_hooks = ()
        if self._require_grads_hooks:
            self._require_grads_hook = self._require_grads_hooks[0]
        elif "_require_grads_hook" in self.__dict__:
            del self._require_grads_hook

    def _input_hooks(self) -> list[Any]:
        """The handles by which transformers removes what makes the embeddings' outputs require a gradient."""
        return list(getattr(self, "_require_grads_hooks", None) or ())

    @can_return_tuple
    def _forward_chunked(
        self,
        labels: torch.Tensor,
        *,
        num_items_in_batch: torch.Tensor | int | None = None,
        shift_labels: torch.Tensor | None = None,
        ignore_index: int = IGNORED_LABEL,
        **inputs: Any,
    ) -> Gemma3CausalLMOutputWithPast:
        """Gemma 3's forward with its loss in pieces, and without logits."""
        assert self._chunked_loss is not None
        if self.loss_function is not ForCausalLMLoss:
            raise ValueError(
                "the chunked loss is cross-entropy, and this model has another loss_function; "
                "call set_chunked_loss(None), or take the loss_function back"
            )
        chunk_size, backend = self._chunked_loss
        device = self.lm_head.weight.device
        labels_N = chunked_loss.shift_labels(labels) if shift_labels is None else shift_labels.reshape(-1)
        labels_N = labels_N.masked_fill(labels_N == ignore_index, IGNORED_LABEL).to(device)
        rows_R = rows_that_count(labels_N)
        outputs = self.model(**inputs, return_dict=True)
        hidden_ND = outputs.last_hidden_state.flatten(0, 1).to(device)
        # FSDP2 gathers the head's weight with the modules around it as they are called, so it is read here and not
        # before; and until torch 2.13 it waits for each of them to be called: the head is, on no token. Elsewhere that
        # would only cost a gradient of zeros.
        nothing = self.lm_head(hidden_ND[:0]).sum() if _is_sharded(self.lm_head) else 0.0
        loss = nothing + chunked_cross_entropy(
            hidden_ND.index_select(0, rows_R),
            self.lm_head.weight,
            labels_N.index_select(0, rows_R),
            chunk_size=chunk_size,
            num_items=num_items_in_batch,
            backend=backend,
        )
        return Gemma3CausalLMOutputWithPast(
            loss=loss,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )


def _is_sharded(module: torch.nn.Module) -> bool:
    """Whether FSDP2 has a module's parameters."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)
