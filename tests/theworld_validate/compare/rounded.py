"""A small model as fingerprints with sketches: its truth, what bfloat16 makes of it, and other roundings of it."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from theworld_validate.documents.fingerprint import FingerprintFile, make_file
from theworld_validate.documents.observations import Fingerprint, Section, whole_plan
from theworld_validate.documents.sketches import Sketch
from theworld_validate.fingerprint.digest import describe_shape, digest_tensor
from theworld_validate.fingerprint.sketch import can_be_sketched, sketch_tensor
from theworld_validate.results import Environment, Scalar, SubjectRecord

Tensors = dict[str, dict[str, torch.Tensor]]  # section -> location -> tensor
LAYERS = ("embed_tokens", "layers.0.self_attn", "layers.0.mlp", "layers.1.self_attn", "layers.1.mlp")
MODULES = ("(model)", *LAYERS)
STATE: dict[str, Section] = {
    "config": {"config.hidden_size": {"value": 64}},
    "modules": {name: {"class": f"a.{name.title()}", "training": False, "hooks": 0} for name in MODULES},
    "parameters": {f"{name}.weight": {"dtype": "bfloat16", "shape": "[2]", "digest": f"{i:032x}"} for i, name in
                   enumerate(LAYERS)},
    "buffers": {},
    "globals": {"num_threads": {"value": 1}, "grad_enabled": {"value": True}},
}  # fmt: skip


def truth_tensors() -> Tensors:
    """Every number in float32, as if nothing had been rounded."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    return {
        "trace": {f"p/{name}": draw(20, 64) for name in LAYERS},
        "outputs": {"p/logits": draw(20, 100), "p/loss": draw(1)},
        "generation": {"p/greedy": torch.arange(4), **{f"p/greedy_logits[{i}]": draw(1, 300) for i in range(3)}},
        "gradients": {f"{name}.weight": draw(64, 64) for name in LAYERS},
    }


def rounded(tensors: Tensors, *, seed: int | None = None, times: float = 1.0, only: str = "") -> Tensors:
    """What bfloat16 makes of it: the nearest number, or with a seed one that is about as far, `times` over.

    Args:
        only: places that it is done to; the others are rounded to the nearest.
    """
    random = torch.Generator().manual_seed(seed or 0)

    def one(place: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        if seed is not None and only in place:
            noise = torch.randn(tensor.shape, generator=random) * 2.0**-9 * times
            tensor = tensor * (1 + noise)
        return tensor.bfloat16()

    return {name: {place: one(place, seen) for place, seen in section.items()} for name, section in tensors.items()}


def fingerprint_of(tensors: Tensors, state: Mapping[str, Section] = STATE) -> Fingerprint:
    """Observe them as a worker does."""
    sections: dict[str, Section] = dict(state)
    sketches: dict[str, Sketch] = {}
    for name, section in tensors.items():
        field = "gradient" if name == "gradients" else "tensor"
        sections[name] = {
            place: {field: describe_shape(tensor), "digest": digest_tensor(tensor)} for place, tensor in section.items()
        }
        sketches |= {digest_tensor(t): sketch_tensor(t) for t in section.values() if can_be_sketched(t)}
    return Fingerprint(sections=sections, sketches=sketches, num_bytes=dict.fromkeys(tensors, 4))


def with_state(fingerprint: Fingerprint, section: str, location: str, **fields: Scalar) -> Fingerprint:
    """The same with some fields of one observation set otherwise."""
    before = fingerprint.sections[section]
    seen: Section = {**before, location: {**before.get(location, {}), **fields}}
    return replace(fingerprint, sections={**fingerprint.sections, section: seen})


_MODEL = {"transformers_class": "transformers.models.llama.modeling_llama.LlamaForCausalLM"}


def whole(fingerprint: Fingerprint) -> FingerprintFile:
    """A file with everything that a comparison asks for."""
    modules = {**fingerprint.sections["modules"], "(model)": {**_MODEL, "training": False}}
    saved = {
        f"{name}/{place}": seen
        for name in ("config", "parameters")
        for place, seen in fingerprint.sections[name].items()
    }
    written = {f"written/{name}": {"dtype": "bfloat16", "shape": "[2]"} for name in STATE["parameters"]}
    sections = {
        "files": {"(summary)": {"keys": 5, "bytes": 20}},
        **fingerprint.sections,
        "modules": modules,
        "round_trip": {**saved, **written, **{f"base/{n}": s for n, s in saved.items() if n.startswith("parameters/")}},
    }
    return make_file(
        replace(fingerprint, sections=sections, num_bytes={**fingerprint.num_bytes, "parameters": 4, "round_trip": 4}),
        subject=SubjectRecord(role="model", target="a:b", checkpoint="/here", dtype="bfloat16", device="cpu"),
        environment=Environment(python="3.11.7", packages={"torch": "2.13.0"}),
        plan=whole_plan(("p",)),
    )
