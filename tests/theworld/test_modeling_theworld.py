"""The model: exact when the branch is off; gradients, batches, caches and generation when it is on."""

import re
from typing import Any

import pytest
import torch
from transformers import Gemma3ForConditionalGeneration

from tests.conftest import make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint

PROMPT = "See <start_of_world> now"
# float32 on one machine: a row alone and a row in a padded batch may take other kernels.
ROW_TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def ask(processor: TheWorldProcessor, text: Any = PROMPT, clips: Any = None, **kwargs: Any) -> Any:
    clips = make_clip() if clips is None else clips
    return processor(text=text, world_frames=clips, padding=True, return_tensors="pt", **kwargs)


def enable_checkpointing(model: TheWorld) -> None:
    """By its newest name: the older one warns from transformers 5.20 on."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def make_image() -> Any:
    from PIL import Image

    return Image.linear_gradient("L").convert("RGB")


def test_off_is_gemma_bit_for_bit(tiny: SyntheticCheckpoint, gemma: Gemma3ForConditionalGeneration) -> None:
    off = TheWorld.from_pretrained(tiny.gemma, enable_world=False, dtype=torch.float32)
    assert not off.enable_world
    assert {n: p.requires_grad for n, p in off.named_parameters()} == {
        n: p.requires_grad for n, p in gemma.named_parameters()
    }
    assert [type(m) for m in off.modules()][1:] == [type(m) for m in gemma.modules()][1:]
    ids = torch.arange(300, 380)[None]
    with torch.no_grad():
        assert torch.equal(off(ids).logits, gemma(ids).logits)
    assert off.generation_config.to_dict() == gemma.generation_config.to_dict()


def test_off_draws_no_random_number_and_imports_no_diffusers(tiny: SyntheticCheckpoint) -> None:
    import subprocess
    import sys

    code = (
        "import sys, torch\nfrom theworld import TheWorld\n"
        "before = torch.get_rng_state()\n"
        f"TheWorld.from_pretrained({str(tiny.gemma)!r}, enable_world=False)\n"
        "assert torch.equal(before, torch.get_rng_state())\n"
        "assert 'diffusers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_gemma_part_is_untouched_by_the_branch(shared_world: TheWorld, gemma: Gemma3ForConditionalGeneration) -> None:
    ids = torch.arange(300, 380)[None]
    with torch.no_grad():
        assert torch.equal(
            shared_world(ids).logits, gemma(ids).logits[..., : shared_world.config.text_config.vocab_size]
        )
    buffers = dict(gemma.named_buffers())
    for name, buffer in shared_world.model.named_buffers(prefix="model"):
        assert torch.equal(buffer, buffers[name])


def test_loss_is_gemmas(tiny: SyntheticCheckpoint, gemma: Gemma3ForConditionalGeneration) -> None:
    off = TheWorld.from_pretrained(tiny.gemma, enable_world=False, dtype=torch.float32)
    ids = torch.arange(300, 380)[None]
    assert off.loss_function is gemma.loss_function
    assert torch.equal(off(ids, labels=ids).loss, gemma(ids, labels=ids).loss)


def test_gradients_reach_the_branch_and_nothing_else(world: TheWorld, processor: TheWorldProcessor) -> None:
    inputs = ask(processor)
    world(**inputs, labels=inputs["input_ids"]).loss.backward()
    with_gradient = {n for n, p in world.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient == {
        "model.world_projection.linear.weight",
        "model.world_projection.linear.bias",
        "model.temporal_embedding.embedding.weight",
    }


def test_full_freeze_preset_reaches_the_vae_encoder(world: TheWorld, processor: TheWorldProcessor) -> None:
    world.set_freeze("full")
    inputs = ask(processor)
    world(**inputs, labels=inputs["input_ids"]).loss.backward()
    untouched = {n for n, p in world.named_parameters() if p.requires_grad and p.grad is None}
    # Without an image, the vision side takes no part.
    assert all(n.startswith(("model.vision_tower", "model.multi_modal_projector")) for n in untouched)
    assert not any(p.requires_grad for p in world.world_encoder.vae.decoder.parameters())


def test_world_tokens_change_the_logits(shared_world: TheWorld, processor: TheWorldProcessor) -> None:
    with torch.no_grad():
        one = shared_world(**ask(processor, clips=make_clip(seed=0))).logits
        other = shared_world(**ask(processor, clips=make_clip(seed=1))).logits
    before = processor(text="See ", return_tensors="pt")["input_ids"].shape[1]
    assert torch.equal(one[:, :before], other[:, :before]), "tokens before the clip cannot see it"
    assert (one[:, -1] - other[:, -1]).abs().max() > 1e-3


def test_time_steps_are_told_apart(shared_world: TheWorld) -> None:
    still = make_clip(1).expand(-1, 5, -1, -1)[None]
    steps = shared_world.get_world_features(still).view(2, 16, -1)
    embedding = shared_world.temporal_embedding.embedding.weight
    assert not torch.equal(embedding[0], embedding[1])
    assert (steps[0] - steps[1]).abs().max() > 0


def test_batch_of_different_lengths_equals_its_rows(shared_world: TheWorld, processor: TheWorldProcessor) -> None:
    prompts = [PROMPT, "no clip here", f"A longer one. {PROMPT} And then?"]
    clips = [make_clip(5), None, make_clip(1, seed=1)]
    with torch.no_grad():
        together = shared_world(**ask(processor, prompts, clips)).logits
        for row, (prompt, clip) in enumerate(zip(prompts, clips, strict=True)):
            alone = shared_world(**ask(processor, [prompt], [clip])).logits[0]
            torch.testing.assert_close(together[row, -len(alone) :], alone, **ROW_TOLERANCE)


def test_image_and_clip_in_one_prompt(shared_world: TheWorld, processor: TheWorldProcessor) -> None:
    both = "<start_of_image> then <start_of_image> and <start_of_world>"
    inputs = ask(processor, both, images=[make_image(), make_image().rotate(90)])
    with torch.no_grad():
        output = shared_world(**inputs)
        assert output.image_hidden_states.shape == (2, 16, 80)
        swapped = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}
        assert (shared_world(**swapped).logits[:, -1] - output.logits[:, -1]).abs().max() > 1e-4
        # The same embeddings by hand, through Gemma's own forward.
        embeds = shared_world.get_input_embeddings()(inputs["input_ids"])
        embeds[inputs["input_ids"] == 1024] = output.image_hidden_states.flatten(0, 1)
        embeds[inputs["input_ids"] == 6] = shared_world.get_world_features(inputs["world_frames"])
        by_hand = Gemma3ForConditionalGeneration.forward(
            shared_world,
            inputs_embeds=embeds,
            attention_mask=inputs["attention_mask"],
            token_type_ids=inputs["token_type_ids"],
        )
    assert torch.equal(by_hand.logits, output.logits)


def test_cached_decoding_equals_one_forward(shared_world: TheWorld, processor: TheWorldProcessor) -> None:
    inputs = ask(processor, f"{PROMPT} and a tail")
    with torch.no_grad():
        whole = shared_world(**inputs).logits
        prompt = {n: t[:, :-3] if t.ndim == 2 else t for n, t in inputs.items()}
        cache = shared_world(**prompt, use_cache=True).past_key_values
        for position in range(-3, 0):
            step = shared_world(
                input_ids=inputs["input_ids"][:, position:][:, :1], past_key_values=cache, use_cache=True
            )
            torch.testing.assert_close(step.logits[:, -1], whole[:, position], **ROW_TOLERANCE)


@pytest.mark.parametrize("options", [{"do_sample": False}, {"num_beams": 3}, {"do_sample": False, "use_cache": False}])
def test_generate(shared_world: TheWorld, processor: TheWorldProcessor, options: dict[str, Any]) -> None:
    prompts, clips = [PROMPT, "no clip", f"More. {PROMPT}"], [make_clip(5), None, make_clip(1)]
    options = {"do_sample": False, "top_k": None, "top_p": None, "max_new_tokens": 4, "min_new_tokens": 4, **options}
    together = shared_world.generate(**ask(processor, prompts, clips), **options)[:, -4:]
    for row, (prompt, clip) in enumerate(zip(prompts, clips, strict=True)):
        alone = shared_world.generate(**ask(processor, [prompt], [clip]), **options)[:, -4:]
        assert torch.equal(together[row], alone[0])


def test_gradient_checkpointing_gives_the_same_gradients(world: TheWorld, processor: TheWorldProcessor) -> None:
    inputs = ask(processor)
    world.train()
    world(**inputs, labels=inputs["input_ids"]).loss.backward()
    plain = world.world_projection.linear.weight.grad.clone()
    world.zero_grad()
    enable_checkpointing(world)
    world(**inputs, labels=inputs["input_ids"]).loss.backward()
    torch.testing.assert_close(world.world_projection.linear.weight.grad, plain)


def test_users_labels_are_used(shared_world: TheWorld, processor: TheWorldProcessor) -> None:
    inputs = ask(processor)
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -1] = 300
    with torch.no_grad():
        output = shared_world(**inputs, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[:, -2].float(), torch.tensor([300]))
    torch.testing.assert_close(output.loss, expected)


def test_mismatches_are_value_errors(
    shared_world: TheWorld, processor: TheWorldProcessor, tiny: SyntheticCheckpoint
) -> None:
    inputs = ask(processor)
    one_less = {**inputs, "input_ids": inputs["input_ids"].clone()}
    one_less["input_ids"][inputs["input_ids"] == 6] = torch.tensor([300] + [6] * 31)
    with pytest.raises(ValueError, match="make 32 world tokens and the prompt holds 31 placeholders"):
        shared_world(**one_less)
    without = {name: tensor for name, tensor in inputs.items() if name != "world_frames"}
    with pytest.raises(ValueError, match="make 0 world tokens and the prompt holds 32 placeholders"):
        shared_world(**without)
    with pytest.raises(ValueError, match=re.escape("must be in [-1, 1], got [-255.0")):
        shared_world(**{**inputs, "world_frames": inputs["world_frames"] * 255})
    with pytest.raises(ValueError, match="make 32 world tokens and the prompt holds 0 placeholders"):
        shared_world(inputs_embeds=torch.zeros(1, 4, 80), world_frames=inputs["world_frames"])
    off = TheWorld.from_pretrained(tiny.gemma, enable_world=False, dtype=torch.float32)
    with pytest.raises(ValueError, match="the world branch is off; load with enable_world=True"):
        off(**inputs)
    with pytest.raises(ValueError, match="no world branch"):
        _ = off.world_config


def test_splitting_a_batch_as_data_parallel_does(shared_world: TheWorld, processor: TheWorldProcessor) -> None:
    inputs = ask(processor, [PROMPT, "none", PROMPT, f"{PROMPT}!"], [make_clip(5), None, make_clip(1), make_clip(5)])
    with torch.no_grad():
        whole = shared_world(**inputs).logits
        halves = [shared_world(**{n: t[part] for n, t in inputs.items()}).logits for part in (slice(2), slice(2, 4))]
    torch.testing.assert_close(torch.cat(halves), whole, **ROW_TOLERANCE)
