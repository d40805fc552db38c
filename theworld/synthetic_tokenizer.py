"""A fast tokenizer laid out as Gemma 3's: the same class, special tokens and ids, of any length.

In: a geometry. Out: a `GemmaTokenizer` that spells text in single characters, with byte fallback.
"""

from typing import Any

from theworld.geometries import Geometry

_FIRST_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]")
_NUM_FIRST_UNUSED = 99  # <unused0> is 6 and <unused98> is 104, as in Gemma 3
_START_OF_TURN, _END_OF_TURN = "<start_of_turn>", "<end_of_turn>"

# What Gemma 3's published template does, in our own words: text and image items are rendered and every other kind is
# passed over, only the first item of a system message is read, and user and assistant must take turns.
CHAT_TEMPLATE = """{{ bos_token }}
{%- set state = namespace(system='') -%}
{%- set turns = messages -%}
{%- if messages[0].role == 'system' -%}
{%- set first = messages[0].content -%}
{%- set state.system = (first if first is string else first[0].text) ~ '\\n\\n' -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- if (message.role == 'user') != (loop.index0 is even) -%}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif -%}
{{ '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' ~ state.system }}
{%- set state.system = '' -%}
{%- if message.content is string -%}{{ message.content | trim }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<start_of_image>
{%- elif part.type == 'text' -%}{{ part.text | trim }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""


def build_vocabulary(shape: Geometry) -> dict[str, int]:
    """Lay out token -> id; ids that nothing needs are filled with unused tokens."""
    tokens = [
        *_FIRST_TOKENS,
        *(f"<unused{i}>" for i in range(_NUM_FIRST_UNUSED)),
        _START_OF_TURN,
        _END_OF_TURN,
        "\n",
        "\n\n",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *(chr(code) for code in range(ord("!"), ord("~") + 1)),
    ]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    vocabulary["<start_of_image>"] = shape.gemma_config["boi_token_index"]
    vocabulary["<end_of_image>"] = shape.gemma_config["eoi_token_index"]
    vocabulary["<image_soft_token>"] = shape.gemma_config["image_token_index"]
    taken, next_unused = set(vocabulary.values()), _NUM_FIRST_UNUSED
    for i in range(shape.num_tokens):
        if i not in taken:
            vocabulary[f"<unused{next_unused}>"] = i
            next_unused += 1
    return vocabulary


def build_tokenizer(shape: Geometry) -> Any:
    """Build the tokenizer; its length is `shape.num_tokens`."""
    from transformers import GemmaTokenizer

    tokenizer = GemmaTokenizer(
        vocab=build_vocabulary(shape),
        merges=[],
        add_bos_token=True,
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=shape.gemma_config["text_config"]["max_position_embeddings"],
    )
    turns = [_START_OF_TURN, _END_OF_TURN]
    tokenizer.add_special_tokens({"extra_special_tokens": turns}, replace_extra_special_tokens=False)
    if len(tokenizer) != shape.num_tokens:
        raise AssertionError(f"the tokenizer has {len(tokenizer)} tokens, its geometry says {shape.num_tokens}")
    return tokenizer
