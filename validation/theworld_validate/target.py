"""What a command is about: a checkpoint, and how it is to be loaded."""

from dataclasses import dataclass

REFERENCE_TARGET = "transformers:Gemma3ForConditionalGeneration"
CANDIDATE_TARGET = "theworld:TheWorld"
DTYPES = ("bfloat16", "float16", "float32", "float64")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flex_attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A checkpoint, and how it is to be loaded; `subjects.subject.Subject` adds what loads it.

    Args:
        checkpoint: a local folder or a hub id.
        cosmos: the Cosmos repository of the world branch; None where there is none.
        device: "cpu", "cuda", "cuda:N", or "auto" for transformers' own device map.
        dtype: one of `DTYPES`.
        attn: an attention implementation; None leaves it to transformers.
        seed: of probes and sampling, and set before loading.
        probes: "module:function" of a user's own probes; None for those of the checkpoint's family.
    """

    checkpoint: str
    cosmos: str | None = None
    device: str = "cpu"
    dtype: str = "bfloat16"
    attn: str | None = None
    seed: int = 0
    probes: str | None = None
