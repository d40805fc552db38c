"""TheWorld behaves as other Hugging Face models do: reloading, Auto classes, generation, devices, tracing."""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    Gemma3Config,
    Gemma3Model,
    TextIteratorStreamer,
    pipeline,
)

from tests.conftest import load_world, make_clip
from theworld import TheWorld, TheWorldProcessor
from theworld.synthetic import SyntheticCheckpoint
from theworld.world_model import TheWorldModel


@pytest.fixture(scope="module")
def inputs(processor: TheWorldProcessor) -> dict[str, torch.Tensor]:
    return dict(processor(text="<start_of_world>hello there", world_frames=make_clip(), return_tensors="pt"))


@pytest.fixture(scope="module")
def model(tiny: SyntheticCheckpoint) -> TheWorld:
    return load_world(tiny, freeze="language").eval()


@pytest.fixture(scope="module")
def saved(model: TheWorld, processor: TheWorldProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def logits(model: TheWorld, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def run(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def trainable(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# Loading what was saved


@pytest.mark.parametrize(
    ("saving", "loading"), [({"max_shard_size": "300KB"}, {}), ({"variant": "fp32"}, {"variant": "fp32"})]
)
def test_shards_and_variants_come_back(
    model: TheWorld, tmp_path: Path, inputs: Any, logits: torch.Tensor, saving: Any, loading: Any
) -> None:
    model.save_pretrained(tmp_path, **saving)
    loaded, told = TheWorld.from_pretrained(tmp_path, output_loading_info=True, **loading)
    assert not any(told.values())
    assert torch.equal(run(loaded.eval(), inputs), logits)


def test_a_mismatched_tensor_is_refused_or_begun_anew(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("world_projection.linear.bias"))
    save_file({**weights, name: torch.zeros(3, 3)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"world_projection.linear.bias in model.safetensors is \(3, 3\)"):
        TheWorld.from_pretrained(folder)
    _, told = TheWorld.from_pretrained(folder, ignore_mismatched_sizes=True, output_loading_info=True)
    assert [key for key, *_ in told["mismatched_keys"]] == ["model.world_projection.linear.bias"]


def test_what_is_pushed_to_the_hub_is_what_is_saved(model: TheWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict[str, Any] = {}

    def upload(self: Any, folder: Any, *args: Any, **kwargs: Any) -> None:
        pushed["model"] = TheWorld.from_pretrained(folder)

    monkeypatch.setattr(TheWorld, "_upload_modified_files", upload)
    hub = Mock()
    hub.create_repo.return_value = Mock(repo_id="me/world")
    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: hub)
    model.push_to_hub("me/world")
    assert torch.equal(pushed["model"].world_projection.linear.weight, model.world_projection.linear.weight)


def test_the_pipeline_reads_a_clip(saved: Path, inputs: dict[str, torch.Tensor], model: TheWorld) -> None:
    told = pipeline("image-text-to-text", model=str(saved))(
        text="<start_of_world>hello there",
        world_frames=make_clip(),
        generate_kwargs={"do_sample": False},
        max_new_tokens=4,
        return_full_text=False,
    )
    answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    expected = AutoTokenizer.from_pretrained(saved).decode(answer, skip_special_tokens=True)
    assert told[0]["generated_text"] == expected


@pytest.mark.parametrize("cache", ["static", "dynamic"])
def test_every_cache_gives_the_same_tokens(model: TheWorld, inputs: dict[str, torch.Tensor], cache: str) -> None:
    plain = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert torch.equal(model.generate(**inputs, max_new_tokens=6, do_sample=False, cache_implementation=cache), plain)


def test_generation_goes_on_from_its_cache(model: TheWorld, inputs: dict[str, torch.Tensor]) -> None:
    settings = {"do_sample": False, "return_dict_in_generate": True, "eos_token_id": -1, "pad_token_id": 0}
    whole = model.generate(**inputs, max_new_tokens=4, **settings).sequences
    first = model.generate(**inputs, max_new_tokens=3, **settings)
    again = {**inputs, "input_ids": first.sequences, "attention_mask": torch.ones_like(first.sequences)}
    again.pop("token_type_ids", None)
    more = model.generate(**again, past_key_values=first.past_key_values, max_new_tokens=1, **settings)
    assert torch.equal(more.sequences, whole)


def test_tokens_are_streamed(model: TheWorld, inputs: dict[str, torch.Tensor], processor: TheWorldProcessor) -> None:
    streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True)
    answer = model.generate(**inputs, max_new_tokens=5, streamer=streamer)[0, inputs["input_ids"].shape[1] :]
    assert "".join(streamer) == processor.tokenizer.decode(answer)


@pytest.mark.parametrize("auto", [TheWorld, AutoModelForImageTextToText, AutoModelForMultimodalLM])
def test_a_saved_model_comes_back_as_it_was(
    model: TheWorld, saved: Path, inputs: dict[str, torch.Tensor], logits: torch.Tensor, auto: Any
) -> None:
    loaded = auto.from_pretrained(saved)
    assert type(loaded) is TheWorld
    assert loaded.enable_world
    assert loaded.dtype == torch.float32
    assert trainable(loaded) == trainable(model)
    assert loaded.world_config == model.world_config
    assert torch.equal(run(loaded, inputs), logits)


def test_a_model_saved_without_its_branch_comes_back_without(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    TheWorld.from_pretrained(tiny.gemma, enable_world=False, freeze="vision").save_pretrained(tmp_path)
    loaded = TheWorld.from_pretrained(tmp_path)
    assert not loaded.enable_world
    assert type(loaded.model) is Gemma3Model
    assert {name.split(".")[1] for name in trainable(loaded)} == {"vision_tower", "multi_modal_projector"}
    AutoTokenizer.from_pretrained(tiny.gemma).save_pretrained(tmp_path)
    with_branch = TheWorld.from_pretrained(tmp_path, cosmos_model_name_or_path=str(tiny.cosmos))
    assert with_branch.enable_world


def test_parameters_frozen_by_hand_stay_frozen(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    world = load_world(tiny)
    world.world_projection.requires_grad_(False)
    world.save_pretrained(tmp_path)
    assert trainable(TheWorld.from_pretrained(tmp_path)) == {"model.temporal_embedding.embedding.weight"}


def test_the_inner_model_sees_the_world(model: TheWorld, saved: Path, inputs: Any, logits: torch.Tensor) -> None:
    with torch.no_grad():
        inner = AutoModel.from_pretrained(saved)
        assert type(inner) is type(model.model) is TheWorldModel
        for one in (inner, model.model):
            assert torch.equal(model.lm_head(one(**inputs).last_hidden_state), logits)
        assert isinstance(model.model(**inputs, return_dict=False), tuple)


def test_a_trainable_only_folder_loads_through_the_auto_classes(
    tiny: SyntheticCheckpoint, tmp_path: Path, inputs: Any
) -> None:
    world = load_world(tiny)
    with torch.no_grad():
        world.world_projection.linear.weight.mul_(2)
    world.save_pretrained(tmp_path, trainable_only=True)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(run(loaded, inputs), run(world, inputs))
    config = Gemma3Config.from_pretrained(tiny.gemma)
    with pytest.raises(ValueError, match="leave config out"):
        TheWorld.from_pretrained(tmp_path, config=config)
    with pytest.raises(ValueError, match="heeds no other argument; leave out max_shard_size"):
        world.save_pretrained(tmp_path, trainable_only=True, max_shard_size="1MB")


def test_the_constructor_takes_gemmas_config(tiny: SyntheticCheckpoint) -> None:
    config = Gemma3Config.from_pretrained(tiny.gemma, attn_implementation="eager")
    made = TheWorld(config)
    assert type(made.model) is Gemma3Model
    assert made.config.text_config._attn_implementation == "eager"
    assert AutoProcessor.from_pretrained(tiny.gemma).tokenizer is not None


# Generation


@pytest.mark.parametrize("way", ["plain", "static", "lookup", "assistant", "embeds"])
def test_every_way_to_generate_gives_the_same_tokens(model: TheWorld, inputs: dict[str, Any], way: str) -> None:
    asked = {"max_new_tokens": 5, "do_sample": False}
    expected = model.generate(**inputs, **asked)[:, inputs["input_ids"].shape[1] :]
    arguments: dict[str, Any] = {
        "plain": {},
        "static": {"cache_implementation": "static"},
        "lookup": {"prompt_lookup_num_tokens": 2},
        "assistant": {"assistant_model": model},
        "embeds": {"inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])},
    }[way]
    given = {name: value for name, value in inputs.items() if not (way == "embeds" and name == "input_ids")}
    found = model.generate(**given, **arguments, **asked)
    assert torch.equal(found[:, -expected.shape[1] :], expected)


def test_beams_and_several_clips(model: TheWorld, processor: TheWorldProcessor) -> None:
    first, second = make_clip(seed=1), make_clip(1, seed=2)
    marker = "<start_of_world>"
    texts = [f"{marker}a{marker}b", f"{marker}c", "d"]
    batch = processor(text=texts, world_frames=[[first, second], second, None], padding=True, return_tensors="pt")
    assert batch["world_frames"].shape == (3, 2, 3, 5, 32, 32)
    assert batch["world_num_frames"].tolist() == [[5, 1], [1, 0], [0, 0]]
    together = model.generate(**batch, num_beams=2, max_new_tokens=3, do_sample=False)[:, -3:]
    alone = processor(text=texts[0], world_frames=[first, second], return_tensors="pt")
    swapped = processor(text=texts[0], world_frames=[second, first], return_tensors="pt")
    assert torch.equal(model.generate(**alone, num_beams=2, max_new_tokens=3, do_sample=False)[:, -3:], together[:1])
    assert not torch.equal(run(model, dict(swapped)), run(model, dict(alone)))


# Devices and tracing


def test_offloaded_and_hooked_models_give_the_same(
    saved: Path, tmp_path: Path, inputs: Any, logits: torch.Tensor
) -> None:
    from accelerate import dispatch_model

    parts = ("vision_tower", "multi_modal_projector", "language_model", "world_encoder", "world_projection")
    everything = dict.fromkeys([*(f"model.{part}" for part in parts), "model.temporal_embedding", "lm_head"], "cpu")
    hooked = TheWorld.from_pretrained(saved)
    assert "WorldEncoder" in hooked._no_split_modules
    skip_keys = list(hooked._skip_keys_device_placement)
    dispatch_model(hooked, everything, main_device="cpu", force_hooks=True, skip_keys=skip_keys)
    assert torch.equal(run(hooked, inputs), logits)
    copied = TheWorld.from_pretrained(saved)
    dispatch_model(copied, everything, main_device="cpu", force_hooks=True)
    with pytest.raises(ValueError, match="made 5 latent steps of 5 frames, and not 2: hooks copied the lists"):
        run(copied, inputs)
    on_disk = TheWorld.from_pretrained(
        saved, device_map="auto", max_memory={"cpu": "1MB"}, offload_folder=str(tmp_path)
    )
    assert "disk" in on_disk.hf_device_map.values()
    assert torch.equal(run(on_disk, inputs), logits)


def test_classes_that_must_not_be_split_are_the_models_own(model: TheWorld, tiny: SyntheticCheckpoint) -> None:
    """FSDP by class fails on any other."""
    for one in (model, TheWorld.from_pretrained(tiny.gemma, enable_world=False)):
        assert set(one._no_split_modules) <= {type(module).__name__ for module in one.modules()}


def test_a_replica_without_parameters_encodes(model: TheWorld, inputs: Any) -> None:
    """As `torch.nn.DataParallel` makes them: tensors in place of parameters."""
    encoder = load_replica(model.world_encoder)
    assert torch.equal(encoder(inputs["world_frames"]), model.world_encoder(inputs["world_frames"]))


def load_replica(module: Any) -> Any:
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        replica._modules[name] = child if child is None else load_replica(child)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            object.__setattr__(replica, name, parameter.detach())
    replica._parameters = {}
    return replica


def test_the_forward_is_one_graph(model: TheWorld, inputs: Any, logits: torch.Tensor) -> None:
    exported = torch.export.export(model, (), {**inputs, "use_cache": False}, strict=False)
    assert torch.equal(run(exported.module(), {**inputs, "use_cache": False}), logits)


# What cannot work says so


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"use_gradient_checkpointing": True}, r"call model.gradient_checkpointing_enable\(\)"),
        ({"frame_size": 64}, r"write world=\{'frame_size': ...\}"),
        ({"enable_world": False, "world": {"frame_size": 64}}, "leave the two out, or load with enable_world=True"),
    ],
)
def test_an_argument_that_would_be_ignored_is_an_error(
    tiny: SyntheticCheckpoint, arguments: dict[str, Any], fix: str
) -> None:
    with pytest.raises(ValueError, match=fix):
        TheWorld.from_pretrained(tiny.gemma, **arguments)


def test_frames_of_another_size_than_the_model_was_told_are_an_error(
    tiny: SyntheticCheckpoint, model: TheWorld, saved: Path, inputs: dict[str, torch.Tensor]
) -> None:
    told = load_world(tiny, world={"frame_size": 64})
    with pytest.raises(ValueError, match=r"are 32 x 32, and the model was loaded for frames of 64; .* frame_size=64"):
        told(**inputs)
    assert TheWorldProcessor.from_pretrained(saved).frame_size == model.world_config.frame_size == 32


def test_a_processor_takes_the_frame_size_of_the_model_beside_it(
    tiny: SyntheticCheckpoint, model: TheWorld, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    TheWorldProcessor.from_pretrained(tiny.gemma).tokenizer.save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (tiny.gemma / name).exists():
            shutil.copy(tiny.gemma / name, tmp_path)
    assert TheWorldProcessor.from_pretrained(tmp_path).frame_size == 32
    TheWorldProcessor.from_pretrained(tiny.gemma, frame_size=64).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has frame_size 64, and the model's config.json 32; name the one"):
        TheWorldProcessor.from_pretrained(tmp_path)
    assert TheWorldProcessor.from_pretrained(tmp_path, frame_size=32).frame_size == 32


def test_a_prompt_with_a_clip_is_not_cut_into_chunks(model: TheWorld, inputs: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="leave prefill_chunk_size out"):
        model.generate(**inputs, max_new_tokens=2, prefill_chunk_size=4)


# Adapters and quantisation


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft 0.21 asks for it
def test_an_adapter_that_freezes_the_projection_says_so(tiny: SyntheticCheckpoint, inputs: Any) -> None:
    from peft import LoraConfig, get_peft_model

    frozen = get_peft_model(load_world(tiny), LoraConfig(target_modules=["q_proj"], r=2)).train()
    with pytest.warns(UserWarning, match=r"give it modules_to_save=\['world_projection', 'temporal_embedding'\]"):
        frozen(**inputs, labels=inputs["input_ids"])
    saving = LoraConfig(target_modules=["q_proj"], r=2, modules_to_save=["world_projection", "temporal_embedding"])
    trained = get_peft_model(load_world(tiny), saving).train()
    trained(**inputs, labels=inputs["input_ids"]).loss.backward()
    reached = {name for name, parameter in trained.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[3] for name in reached if "lora" not in name} == {"world_projection", "temporal_embedding"}


def test_a_quantisation_leaves_the_branch_out_unless_it_is_told_what() -> None:
    from transformers import BitsAndBytesConfig

    from theworld.loading import _keep_branch_unquantised

    given = BitsAndBytesConfig(load_in_8bit=True)
    for config in (given, {"load_in_8bit": True}, {"quant_method": "bitsandbytes", "load_in_8bit": True}):
        kwargs: dict[str, Any] = {"quantization_config": config}
        _keep_branch_unquantised(kwargs)
        kept = kwargs["quantization_config"].llm_int8_skip_modules
        assert {"lm_head", "model.world_projection", "world_encoder"} <= set(kept)
    assert given.llm_int8_skip_modules is None
    own = {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["lm_head"])}
    _keep_branch_unquantised(own)
    assert own["quantization_config"].llm_int8_skip_modules == ["lm_head"]


@pytest.mark.parametrize("enable_world", [True, False])
def test_a_quantisation_leaves_a_new_branch_out_too(tiny: SyntheticCheckpoint, enable_world: bool) -> None:
    """What is noted now is written to config.json: without it the saved model came back with its branch quantised."""
    from transformers import BitsAndBytesConfig

    asked = {"cosmos_model_name_or_path": str(tiny.cosmos)} if enable_world else {"enable_world": False}
    stop = patch("theworld.loading._load_parent", side_effect=KeyboardInterrupt)
    with stop as load, pytest.raises(KeyboardInterrupt):
        TheWorld.from_pretrained(tiny.gemma, quantization_config=BitsAndBytesConfig(load_in_8bit=True), **asked)
    left_out = load.call_args.kwargs["quantization_config"].llm_int8_skip_modules
    assert ("model.world_projection" in left_out) if enable_world else left_out is None


def test_integers_are_never_asked_for_gradients(tiny: SyntheticCheckpoint) -> None:
    world = load_world(tiny)
    layer = world.model.language_model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
    world.set_freeze("full")
    assert not layer.weight.requires_grad
    assert world.model.language_model.layers[1].mlp.up_proj.weight.requires_grad


def test_transformers_trainer_trains_the_projection(tiny: SyntheticCheckpoint, tmp_path: Path, inputs: Any) -> None:
    from transformers import Trainer, TrainingArguments

    world = load_world(tiny)
    before = world.world_projection.linear.weight.detach().clone()
    row = {**{name: value[0] for name, value in inputs.items()}, "labels": inputs["input_ids"][0]}
    settings = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "save_strategy": "no"}
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True, **settings)
    rows: Any = [row] * 4
    Trainer(model=world, args=arguments, train_dataset=rows).train()
    assert not torch.equal(world.world_projection.linear.weight, before)
