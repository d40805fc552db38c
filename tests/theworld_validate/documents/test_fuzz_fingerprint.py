"""Damaged fingerprints: refused in one line, or compared; a pass only where what was observed is the same."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.mutations import SETTINGS, damaged, refused_or
from theworld_validate.documents.fingerprint import FingerprintFile, make_file, read_fingerprint
from theworld_validate.documents.observations import PROBE_SECTIONS, Fingerprint, Section, whole_plan
from theworld_validate.parity.diff_files import compare_files
from theworld_validate.probes.probe import PROBE_NAMES
from theworld_validate.results import Environment, InputError, Status, SubjectRecord, combine


def tensor(number: int, **more: Any) -> dict[str, Any]:
    return {"dtype": "bfloat16", "shape": "[4, 4]", "device": "cpu", "digest": f"{number:032x}", **more}


def make_sections() -> dict[str, Section]:
    modules = ("model.embed_tokens", "model.layers.0.self_attn", "model.layers.0.mlp", "lm_head")
    parameters = {f"{name}.weight": tensor(i, requires_grad=True) for i, name in enumerate(modules)}
    parameters["lm_head.weight"] = {"tied_to": "model.embed_tokens.weight"}
    buffers = {"model.rotary_emb.inv_freq": tensor(20, persistent=False), "model.scale": tensor(21, persistent=True)}
    config: Section = {
        "config.text_config.initializer_range": {"value": 0.02},
        "config.text_config.num_hidden_layers": {"value": 1},
        "config.tie_word_embeddings": {"value": True},
        "config.dtype": {"value": "bfloat16"},
        "generation_config.pad_token_id": {"value": 0},
        "generation_config.top_k": {"value": None},
    }
    sections: dict[str, Section] = {
        "files": {"(summary)": {"num_file_keys": 3, "num_model_keys": 4, "num_tensors": 3, "num_bytes": 96}},
        "config": config,
        "modules": {name: {"class": "Linear", "training": False, "hooks": ""} for name in ("(model)", *modules)},
        "parameters": parameters,
        "buffers": buffers,
        "globals": {"torch.default_dtype": {"value": "torch.float32"}, "grad_mode": {"value": True}},
        **{name: {} for name in PROBE_SECTIONS},
        "gradients": {name: tensor(30 + i) for i, name in enumerate(parameters)},
        "round_trip": {
            **{f"config/{name}": seen for name, seen in config.items()},
            **{f"parameters/{name}": seen for name, seen in parameters.items()},
            **{f"buffers/{name}": seen for name, seen in buffers.items()},
            **{f"written/{name}": {"dtype": "bfloat16", "shape": "[4, 4]"} for name in parameters},
        },
    }
    for number, probe in enumerate(PROBE_NAMES):
        calls = {f"{probe}/{name}#1": tensor(100 * number + i) for i, name in enumerate(modules)}
        sections["trace"] |= {**calls, f"{probe}/lm_head(input)#1": tensor(100 * number + 50)}
        answers = {f"{probe}/{name}": tensor(100 * number + 60 + i) for i, name in enumerate(("logits", "loss"))}
        sections["outputs"] |= answers
    sections["generation"] = {"text/greedy": tensor(900), "text/greedy_logits": tensor(901)}
    return sections


ORIGINAL = make_file(
    Fingerprint(sections=make_sections(), num_bytes={"parameters": 96, "buffers": 64, "trace": 1000, "round_trip": 9}),
    subject=SubjectRecord(role="model", target="a:b", checkpoint="/here", dtype="bfloat16", device="cpu"),
    environment=Environment(python="3.11.7", packages={"torch": "2.13.0", "accelerate": None}, cpu_count=2),
    plan=whole_plan(PROBE_NAMES),
)
VALUES: dict[str, Any] = json.loads(json.dumps(asdict(ORIGINAL)))
MAY_DIFFER = ("device", "requires_grad", "hooks")  # where a tensor lies; what no file of a round trip holds


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fingerprints") / "fingerprint.json"


def meaning(file: FingerprintFile) -> dict[str, Any]:
    """What a fingerprint says, each value with its type, less what is shown only."""
    return {
        name: {
            location: {
                field: (type(value), value)
                for field, value in seen.items()
                if field != "device" and not (name == "round_trip" and field in MAY_DIFFER)
            }
            for location, seen in section.items()
        }
        for name, section in file.sections.items()
    }


def verdict(reference: FingerprintFile, candidate: FingerprintFile) -> Status:
    return combine([check.status for check in compare_files(reference, candidate)])


def test_the_undamaged_one_is_itself(file: Path) -> None:
    file.write_text(json.dumps(VALUES))
    assert read_fingerprint(file) == ORIGINAL
    assert verdict(ORIGINAL, ORIGINAL) is Status.PASSED


@SETTINGS
@given(data=damaged(VALUES))
def test_a_damaged_fingerprint(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    damaged = refused_or(lambda: read_fingerprint(file), InputError)
    if damaged is None:
        return
    is_same = meaning(damaged) == meaning(ORIGINAL) and not damaged.failures
    for verdict_of in (verdict(ORIGINAL, damaged), verdict(damaged, ORIGINAL)):
        if verdict_of is Status.PASSED:
            assert is_same
            assert set(damaged.plan.probes) <= set(PROBE_NAMES)


def changed(section: str, *changes: tuple[str, str, Any]) -> FingerprintFile:
    """The original with other values: location, field, value."""
    seen = dict(ORIGINAL.sections[section])
    for location, field, value in changes:
        seen[location] = {**seen[location], field: value}
    return replace(ORIGINAL, sections={**ORIGINAL.sections, section: seen})


@pytest.mark.parametrize(
    ("location", "value"),
    [
        ("config.tie_word_embeddings", 1),
        ("config.text_config.num_hidden_layers", True),
        ("config.text_config.num_hidden_layers", 1.0),
        ("generation_config.pad_token_id", False),
    ],
)
def test_values_that_python_holds_equal_differ_by_their_type(location: str, value: Any) -> None:
    assert verdict(ORIGINAL, changed("config", (location, "value", value))) is Status.FAILED
    assert verdict(changed("config", (location, "value", value)), ORIGINAL) is Status.FAILED


def test_where_tensors_lie_hides_no_difference_of_the_trace() -> None:
    first, *_, last = [location for location in ORIGINAL.sections["trace"] if location.startswith("text/")]
    on_cuda = (first, "device", "cuda:0")
    assert verdict(ORIGINAL, changed("trace", on_cuda)) is Status.PASSED
    for differing in (first, last):
        other = changed("trace", on_cuda, (differing, "digest", "f" * 32))
        (check,) = [check for check in compare_files(ORIGINAL, other) if check.id == "parity.probe.text"]
        assert check.status is Status.FAILED
        (finding,) = check.findings
        assert (finding.code, finding.location) == ("trace.digest", differing)
