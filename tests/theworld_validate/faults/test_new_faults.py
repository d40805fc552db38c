"""Each fault really is one: it changes what the model holds, answers or writes, as seen without the harness."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from theworld import TheWorld
from theworld.synthetic import SyntheticCheckpoint
from theworld_validate.faults.catalogue import CATALOGUE

pytestmark = pytest.mark.filterwarnings("ignore")  # faults provoke their libraries
IDS = torch.arange(300, 340)[None]
LABELS = {"input_ids": IDS, "labels": IDS}
Make = Callable[[], TheWorld]


@pytest.fixture
def load(tiny: SyntheticCheckpoint) -> Make:
    return lambda: TheWorld.from_pretrained(tiny.gemma, enable_world=False, dtype=torch.bfloat16)


def spoilt(load: Make, name: str) -> Any:
    model = load()
    CATALOGUE[name].inject(model)
    return model


def changed_parameters(load: Make, name: str) -> set[str]:
    reference = dict(load().named_parameters())
    return {
        key
        for key, parameter in spoilt(load, name).named_parameters()
        if key in reference
        and (parameter.dtype is not reference[key].dtype or not torch.equal(parameter, reference[key]))
    }


def generated(model: Any, **how: Any) -> torch.Tensor:
    how = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "disable_compile": True, **how}
    made = model.generate(IDS, return_dict_in_generate=True, output_scores=True, **how)
    return torch.stack([score.float() for score in made.scores])


def written(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    model.save_pretrained(folder)
    return {key: tensor for path in sorted(folder.glob("*.safetensors")) for key, tensor in load_file(path).items()}


def test_several_bits(load: Make) -> None:
    changed = changed_parameters(load, "several-bits")
    assert {name.rpartition("language_model.")[2] for name in changed} == {
        "layers.2.self_attn.v_proj.weight",
        "layers.4.mlp.gate_proj.weight",
        "norm.weight",
    }


def test_tower_quantised(load: Make) -> None:
    changed = changed_parameters(load, "tower-quantised")
    assert changed
    assert all("vision_tower" in name for name in changed)


def test_norms_upcast(load: Make) -> None:
    changed = changed_parameters(load, "norms-upcast")
    assert changed
    assert all("language_model" in name and "norm" in name for name in changed)


def test_nan_in_a_weight(load: Make) -> None:
    model = spoilt(load, "nan-in-weight")
    assert [name for name, p in model.named_parameters() if p.isnan().any()] == [
        "model.language_model.layers.3.mlp.up_proj.weight"
    ]


def test_a_trained_head_is_lost_by_saving(load: Make, tmp_path: Path) -> None:
    model = spoilt(load, "trained-head-beside-a-tied-config")
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    assert model.config.get_text_config().tie_word_embeddings


def test_right_padding_is_not_masked(load: Make) -> None:
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    seen: list[torch.Tensor] = []
    model = spoilt(load, "right-padding-mask-dropped")
    model.model.register_forward_hook(
        lambda _m, _i, kwargs, _o: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    inner = model.model.language_model.layers[0].self_attn
    inner.register_forward_pre_hook(lambda _m, _i, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True)
    inputs["attention_mask"][:, -5:] = 0
    model(**inputs)
    masks = [mask for mask in seen if mask is None or mask.dim() > 2]
    assert masks
    assert all(mask is None or bool(mask[..., -1, -1].all()) for mask in masks)  # the last token sees itself


def test_an_overflow(load: Make) -> None:
    assert not spoilt(load, "overflowing-layer")(input_ids=IDS).logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("beams-not-reordered", {"num_beams": 3}),
        ("static-cache-one-token-short", {"cache_implementation": "static"}),
    ],
)
def test_generation_in_one_way_alone(load: Make, name: str, how: dict[str, Any]) -> None:
    reference, candidate = load(), spoilt(load, name)
    assert torch.equal(generated(reference), generated(candidate))
    assert not torch.equal(generated(reference, **how), generated(candidate, **how))


def test_the_loss_count_is_ignored(load: Make) -> None:
    reference, candidate = load(), spoilt(load, "loss-count-ignored")
    assert reference(**LABELS).loss == candidate(**LABELS).loss
    assert reference(**LABELS, num_items_in_batch=78).loss != candidate(**LABELS, num_items_in_batch=78).loss


def test_given_embeddings_are_scaled_again(load: Make) -> None:
    reference, candidate = load(), spoilt(load, "given-embeddings-scaled-again")
    embeds = reference.get_input_embeddings()(IDS)
    assert torch.equal(reference(input_ids=IDS).logits, candidate(input_ids=IDS).logits)
    assert not torch.equal(reference(inputs_embeds=embeds).logits, candidate(inputs_embeds=embeds).logits)


def test_a_head_that_is_saved_twice(load: Make, tmp_path: Path) -> None:
    assert not [key for key in written(load(), tmp_path / "right") if "lm_head" in key]
    state = written(spoilt(load, "tied-head-saved-twice"), tmp_path / "wrong")
    (head,) = [tensor for key, tensor in state.items() if key.endswith("lm_head.weight")]
    (embedding,) = [tensor for key, tensor in state.items() if key.endswith("embed_tokens.weight")]
    assert not torch.equal(head, embedding)


def test_saved_in_higher_precision(load: Make, tmp_path: Path) -> None:
    assert {t.dtype for t in written(spoilt(load, "saved-in-higher-precision"), tmp_path).values()} == {torch.float32}


def test_other_keys_on_disk_come_back_through_their_own_loader(load: Make, tmp_path: Path) -> None:
    model = spoilt(load, "other-keys-on-disk")
    keys = written(model, tmp_path)
    assert [key for key in keys if "layers.layers." in key]
    loaded = type(model).from_pretrained(str(tmp_path), dtype=torch.bfloat16, enable_world=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert set(written(model, tmp_path / "again")) == set(keys)


def test_a_config_field_is_not_saved(load: Make, tmp_path: Path) -> None:
    model = spoilt(load, "config-field-not-saved")
    model.save_pretrained(tmp_path)
    loaded = TheWorld.from_pretrained(tmp_path, dtype=torch.bfloat16, enable_world=False)
    assert loaded.config.text_config.final_logit_softcapping != model.config.text_config.final_logit_softcapping


def keys_of(folder: Path) -> set[str]:
    keys: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            keys |= set(file.keys())
    return keys


def test_files_without_or_with_further_keys(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    def damaged(name: str) -> Path:
        return CATALOGUE[name].damage_copy(str(tiny.gemma), tmp_path / name)

    whole = keys_of(tiny.gemma)
    (lost,) = whole - keys_of(damaged("lost-key"))
    assert lost.endswith("layers.3.input_layernorm.weight")
    (extra,) = keys_of(damaged("extra-key")) - whole
    assert extra.endswith("layers.3.extra_layernorm.weight")
    assert all(key.startswith("_orig_mod.") for key in keys_of(damaged("keys-of-a-compiled-model")))
    assert [key for key in keys_of(damaged("keys-nested-twice")) if "layers.layers." in key]
    assert len(list(damaged("shadowed-file").glob("*.safetensors"))) > len(list(tiny.gemma.glob("*.safetensors")))


def test_files_with_an_empty_tensor(tiny: SyntheticCheckpoint, tmp_path: Path) -> None:
    folder = CATALOGUE["empty-tensor"].damage_copy(str(tiny.gemma), tmp_path / "copy")
    state = {key: tensor for path in folder.glob("*.safetensors") for key, tensor in load_file(path).items()}
    assert [key for key, tensor in state.items() if not tensor.numel()] == ["language_model.model.embed_tokens.weight"]
