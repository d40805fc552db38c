"""Rollouts: what Cosmos predicts is diffusers' own to the bit, stays out of the model, and reaches the answer."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import load_world, make_clip
from theworld import RolloutConfig, TheWorld, TheWorldProcessor
from theworld.cosmos_pipelines import LatentPredict2
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.world.reference_pipeline import run_reference

ASKED = RolloutConfig(prompt="a ball rolls", safety_checker=None, num_inference_steps=3)
NUM_STEPS = 2


@pytest.fixture(scope="module")
def model(tiny: SyntheticCheckpoint, whole_cosmos: Path) -> TheWorld:
    """A model that no test may change, but for the world model that it holds."""
    world = {"frame_size": 32, "max_world_steps": 8}
    return load_world(SyntheticCheckpoint(gemma=tiny.gemma, cosmos=whole_cosmos), world=world)


def roll(model: TheWorld, clip: torch.Tensor, config: RolloutConfig = ASKED, n: int = NUM_STEPS) -> torch.Tensor:
    return model.roll_out(clip[None], num_world_steps=n, rollout=config).world_latents[0]


@pytest.mark.parametrize("changes", [{}, {"guidance_scale": 1.0, "fps": 16}])
def test_latents_are_those_of_diffusers_own_pipeline(
    model: TheWorld, whole_cosmos: Path, changes: dict[str, Any]
) -> None:
    config = replace(ASKED, **changes)
    reference = run_reference(str(whole_cosmos), make_clip(5), NUM_STEPS, config, dtype=torch.float32)
    made = model.roll_out(world_latents=reference.observed[None], num_world_steps=NUM_STEPS, rollout=config)
    assert torch.equal(made.world_latents[0, :, :2], reference.observed)
    assert torch.equal(made.world_latents[0, :, 2:], reference.predicted)
    assert reference.num_denoising_steps == 3, "diffusers runs the last step, which changes nothing"
    assert reference.predicted.std() > 0.5


def test_the_last_denoising_step_is_left_out_and_no_other(model: TheWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    transformer = model.model._world_model_of(ASKED, torch.float32).pipeline.transformer
    handle = transformer.register_forward_hook(lambda *_: calls.append(1))
    plain = replace(ASKED, guidance_scale=1.0)
    without = roll(model, make_clip(5), plain)
    assert len(calls) == 2
    run = LatentPredict2.__mro__[1].run  # every step
    monkeypatch.setattr(LatentPredict2, "run", run)
    assert torch.equal(roll(model, make_clip(5), plain), without)
    assert len(calls) == 5
    handle.remove()


def test_a_seed_is_a_rollout_and_observed_latents_stay(model: TheWorld) -> None:
    clip = make_clip(5)
    first, again, other = roll(model, clip), roll(model, clip), roll(model, clip, replace(ASKED, seed=1))
    assert torch.equal(first, again)
    assert not torch.equal(first[:, 2:], other[:, 2:])
    assert torch.equal(first[:, :2], model.world_encoder(clip[None])[0])
    assert first.shape == (16, 4, 4, 4)


def test_only_observed_frames_are_encoded(model: TheWorld) -> None:
    seen = []
    handle = model.world_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2]))
    roll(model, make_clip(5), n=6)
    handle.remove()
    assert seen == [5]


def test_a_clip_is_rolled_out_alone_whatever_its_batch(model: TheWorld, processor: TheWorldProcessor) -> None:
    """Rows of other lengths, several clips a row, and rows without one."""
    long, short = make_clip(5), make_clip(1, seed=1)
    inputs = processor(
        text=["<start_of_world><start_of_world> a", "<start_of_world> b", "c"],
        world_frames=[[long, short], [short], None],
        num_world_steps=NUM_STEPS,
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        rolled = model.roll_out(
            inputs["world_frames"], inputs["world_num_frames"], num_world_steps=NUM_STEPS, rollout=ASKED
        )
        logits = model(**inputs, rollout=ASKED).logits
    assert rolled.world_num_frames.tolist() == [[13, 9], [9, 0], [0, 0]]
    for number, steps in ((0, 2), (1, 1)):  # from its own latents: the VAE's bits depend on its batch
        clip = rolled.world_latents[0, number, :, :steps][None]
        alone = model.roll_out(world_latents=clip, num_world_steps=NUM_STEPS, rollout=ASKED).world_latents[0]
        assert torch.equal(rolled.world_latents[0, number, :, : steps + NUM_STEPS], alone)
    assert not rolled.world_latents[2].any()
    assert int((inputs["input_ids"] == model.world_config.world_token_id).sum()) == 16 * (4 + 3 + 3)
    assert torch.isfinite(logits).all()


def test_predicted_steps_reach_the_answer_each_with_its_embedding(
    model: TheWorld, processor: TheWorldProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = processor(
        text="<start_of_world> What next?", world_frames=make_clip(5), num_world_steps=NUM_STEPS, return_tensors="pt"
    )
    calls = []
    original = type(model.model).roll_out
    monkeypatch.setattr(type(model.model), "roll_out", lambda *a, **k: calls.append(1) or original(*a, **k))
    with torch.no_grad():
        features = model.get_world_features(inputs["world_frames"], num_world_steps=NUM_STEPS, rollout=ASKED)
        latents = roll(model, make_clip(5))
        expected = model.world_projection(latents[None]) + model.temporal_embedding.embedding.weight[:4, None, :]
        one, other = (model(**inputs, rollout=replace(ASKED, seed=seed)).logits[0, -1] for seed in (0, 1))
    assert torch.equal(features, expected.flatten(0, 2))
    assert not torch.equal(one, other)
    calls.clear()
    tokens = model.generate(**inputs, rollout=ASKED, max_new_tokens=3, do_sample=False, use_cache=False)
    assert tokens.shape[1] == inputs["input_ids"].shape[1] + 3
    assert len(calls) == 1, "one rollout, also where every token asks for the prompt again"


def test_the_world_model_is_no_part_of_the_model(model: TheWorld, tmp_path: Path) -> None:
    names, counts = set(model.state_dict()), model.get_trainable_parameters()
    first = roll(model, make_clip(5))
    assert model.model._world_model is not None
    assert set(model.state_dict()) == names
    assert model.get_trainable_parameters() == counts
    assert len(list(model.modules())) == len(list(copy.deepcopy(model).modules()))
    assert copy.deepcopy(model).model._world_model._pipeline is None
    model.save_pretrained(tmp_path)
    saved = TheWorld.from_pretrained(tmp_path, dtype=torch.float32)
    assert saved.model._world_model is None
    assert torch.equal(roll(saved, make_clip(5)), first)


def test_release_lets_go_and_the_next_rollout_loads_again(model: TheWorld) -> None:
    first = roll(model, make_clip(5))
    model.release_world_model()
    assert model.model._world_model is None
    assert torch.equal(roll(model, make_clip(5)), first)


def test_offload_brings_one_part_at_a_time(model: TheWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    model.release_world_model()
    plain = roll(model, make_clip(5))
    world_model = model.model._world_model
    assert world_model is not None
    world_model._embeds.clear()
    moves = []
    for name, part in (("transformer", world_model.pipeline.transformer), ("text", world_model._text_encoder)):
        original = part.to
        monkeypatch.setattr(part, "to", lambda d, n=name, o=original: moves.append(f"{n} {d}") or o(d))
    assert torch.equal(roll(model, make_clip(5), replace(ASKED, offload=True)), plain)
    assert moves == ["text cpu", "text cpu", "transformer cpu", "transformer cpu"], "there, and back"
    model.release_world_model()


def test_embeddings_stand_for_a_prompt_and_need_no_text_encoder(
    model: TheWorld, whole_cosmos: Path, tmp_path: Path
) -> None:
    plain = replace(ASKED, guidance_scale=1.0)
    by_prompt = roll(model, make_clip(5), plain)
    embeds, _ = model.model._world_model_of(plain, torch.float32).embed(plain, torch.device("cpu"))
    bare = Path(shutil.copytree(whole_cosmos, tmp_path / "bare"))
    shutil.rmtree(bare / "text_encoder")
    given = replace(plain, prompt=None, prompt_embeds=embeds, cosmos_model_name_or_path=str(bare))
    assert torch.equal(roll(model, make_clip(5), given), by_prompt)
    with pytest.raises(ValueError, match="no text_encoder folder"):
        roll(model, make_clip(5), replace(plain, cosmos_model_name_or_path=str(bare)))


class Checker:
    """Someone's own, which knows nothing of devices."""

    def __init__(self, *, is_safe: bool) -> None:
        self.is_safe, self.seen = is_safe, []

    def check_text_safety(self, prompt: str) -> bool:
        self.seen.append(prompt)
        return self.is_safe


def guardrails(model: TheWorld, config: RolloutConfig) -> dict[str, str | None]:
    made = model.roll_out(make_clip(1)[None], num_world_steps=1, rollout=config)
    return {guardrail.name: guardrail.reason for guardrail in made.guardrails}


def test_the_result_says_which_guardrails_were_called(model: TheWorld) -> None:
    checker = Checker(is_safe=True)
    said = guardrails(model, replace(ASKED, safety_checker=checker))
    assert checker.seen == ["a ball rolls"]
    assert said == {"text": None, "video": "latents were not decoded, so there was no video to look at"}
    embeds = torch.zeros(1, 4, 32)
    given = RolloutConfig(prompt_embeds=embeds, guidance_scale=1.0, safety_checker=checker, num_inference_steps=2)
    assert "no text to look at" in str(guardrails(model, given)["text"])
    assert set(guardrails(model, ASKED).values()) == {"safety_checker=None: no checker was chosen"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"safety_checker": Checker(is_safe=False)}, "refuses the prompt 'a ball rolls'"),
        ({"safety_checker": object()}, "is a object without check_text_safety"),
        ({"safety_checker": "cosmos_guardrail"}, r"pip install 'theworld\[guardrail\]'"),
        ({"cosmos_model_name_or_path": "/nowhere/at/all"}, "/nowhere/at/all: no such folder"),
    ],
)
def test_a_rollout_that_cannot_be_made_is_one_clear_line(
    model: TheWorld, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        roll(model, make_clip(1), replace(ASKED, **changes))
    assert "\n" not in str(caught.value)


def test_a_safety_checker_is_chosen_and_never_left_out_silently(model: TheWorld) -> None:
    with pytest.raises(ValueError, match="needs a word on its safety checker"):
        roll(model, make_clip(1), RolloutConfig(prompt="a ball"))
    with pytest.raises(ValueError, match="num_world_steps needs rollout=RolloutConfig"):
        model.roll_out(make_clip(1)[None], num_world_steps=1, rollout=None)


@pytest.mark.parametrize("num_steps", [7, 10**9])
def test_more_steps_than_the_model_has_embeddings_for_names_the_setting(model: TheWorld, num_steps: int) -> None:
    with pytest.raises(ValueError, match="max_world_steps has room for"):
        roll(model, make_clip(5), n=num_steps)


@pytest.mark.parametrize(
    ("num_steps", "message"), [(10**9, "max_world_steps"), (-1, "whole number"), (1.5, "whole number"), (True, "whole")]
)
def test_the_processor_refuses_a_wrong_number_of_steps(
    processor: TheWorldProcessor, num_steps: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processor(text="<start_of_world>", world_frames=make_clip(1), num_world_steps=num_steps)


def test_the_processor_needs_a_clip_to_look_ahead_from(processor: TheWorldProcessor) -> None:
    with pytest.raises(ValueError, match="give some"):
        processor(text="no clip", num_world_steps=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "either prompt or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 2, 32)}, "either prompt or prompt_embeds"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number from 1"),
        ({"seed": -1}, "seed must be"),
        ({"fps": 0}, "fps must be"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number"),
        ({"offload": 1}, "offload must be True or False"),
        ({"cache_dir": 3}, "cache_dir must be a text"),
        ({"prompt": None, "prompt_embeds": torch.zeros(2, 32)}, "prompt_embeds must be a tensor"),
        ({"negative_prompt": "a", "negative_prompt_embeds": torch.zeros(1, 2, 3)}, "either negative_prompt or"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutConfig(**{"prompt": "a", **fields})


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f / "transformer"), "it has no transformer folder"),
        (
            lambda f: edit(f / "model_index.json", _class_name="os.system"),
            "a rollout needs Cosmos2VideoToWorldPipeline",
        ),
        (lambda f: (f / "model_index.json").unlink(), "no model_index.json, so nothing here predicts"),
        (lambda f: edit(f / "scheduler" / "scheduler_config.json", _class_name="Other"), "its generation has Flow"),
        (lambda f: edit(f / "transformer" / "config.json", num_layers=3), "transformer: .*missing key"),
        (lambda f: edit(f / "text_encoder" / "config.json", num_layers=3), "text_encoder: .*missing key"),
    ],
)
def test_a_damaged_repository_is_named(
    model: TheWorld, whole_cosmos: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    folder = Path(shutil.copytree(whole_cosmos, tmp_path / "cosmos"))
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        roll(model, make_clip(1), replace(ASKED, cosmos_model_name_or_path=str(folder)))
    assert "\n" not in str(caught.value)


def test_a_latent_grid_of_odd_sides_is_refused(model: TheWorld) -> None:
    with pytest.raises(ValueError, match="a rollout needs even sides"):
        model.roll_out(world_latents=torch.zeros(1, 16, 1, 3, 4), num_world_steps=1, rollout=ASKED)


def test_gradients_of_what_is_observed_flow_and_of_what_is_predicted_do_not(model: TheWorld) -> None:
    latents = torch.randn(1, 16, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    made = model.roll_out(world_latents=latents, num_world_steps=1, rollout=ASKED).world_latents
    made[:, :, 0].sum().backward()
    assert latents.grad is not None
    assert bool((latents.grad == 1).all())
    assert made[:, :, 1].detach().std() > 0.1
