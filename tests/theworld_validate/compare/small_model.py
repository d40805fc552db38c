"""A model of two layers and a tower as sections written by hand, and what a comparison finds between two of them."""

import copy
from collections.abc import Sequence
from dataclasses import replace

from theworld_validate.compare.differences import diff_section, diff_trace, differing_places
from theworld_validate.compare.explain import Evidence, contradictions, explain
from theworld_validate.documents.observations import PROBE_SECTIONS, STATE_SECTIONS, Observation, Section
from theworld_validate.results import Finding

EMBED, HEAD = "model.language_model.embed_tokens", "lm_head"
ROTARY = "model.language_model.rotary_emb"
MODULES = (
    "(model)",
    "model",
    "model.vision_tower",
    "model.vision_tower.layers.0.q_proj",
    "model.language_model",
    EMBED,
    *(f"model.language_model.layers.{i}{name}" for i in range(2) for name in ("", ".norm", ".q_proj", ".o_proj")),
    ROTARY,
    HEAD,
)
WEIGHTS = tuple(name for name in MODULES if name.endswith(("q_proj", "o_proj", "norm", "embed_tokens")))
PROBES = ("text", "image")
Model = dict[str, Section]


def small_model() -> Model:
    """Every section of the model as it should be."""
    modules: Section = {}
    for name in MODULES:
        modules[name] = {"training": False, "hooks": 0, "overrides": ""}
        modules[name] |= {"transformers_class": "Gemma"} if name == "(model)" else {"class": f"a.{name.title()}"}
    parameters: Section = {f"{name}.weight": _tensor(f"weight of {name}") for name in WEIGHTS}
    parameters[f"{HEAD}.weight"] = {"tied_to": f"{EMBED}.weight"}
    trace: Section = {}
    for probe in PROBES:
        called = [name for name in MODULES[2:] if probe == "image" or "vision" not in name]
        for name in called:
            if name == f"{ROTARY}":
                continue
            if name.endswith("layers.0"):
                trace[f"{probe}/{ROTARY}(full_attention)[0]"] = {"tensor": "t", "digest": "angles"}
                trace[f"{probe}/{name}.self_attn(attention_mask)"] = {"tensor": "t", "digest": "mask"}
            trace[f"{probe}/{name}"] = {"tensor": "t", "digest": f"output of {name}"}
    extras = ("loss_by_count", "embeds/logits", "arguments/hidden_states[0]", "untraced/logits")
    answers = ("logits", "loss", "cache[0].keys", *extras)
    ways = ("greedy", "greedy_logits[0]", "sampled", "rng_state_cpu", "beams", "static", "static_logits[0]")
    return {
        "config": {
            f"config.text_config.{name}": {"value": 1} for name in ("sliding_window", "rope_theta", "vocab_size")
        }
        | {"config.dtype": {"value": "bfloat16"}, "generation_config.top_k": {"value": 1}},
        "modules": modules,
        "parameters": parameters,
        "buffers": {
            f"{ROTARY}.inv_freq": {**_tensor("angles"), "dtype": "float32", "persistent": False},
            f"{EMBED}.embed_scale": {**_tensor("scale"), "persistent": False},
        },
        "globals": {"grad_enabled": {"value": True}, "rng_state_cpu": {"value": "1"}},
        "trace": trace,
        "outputs": {f"{p}/{name}": {"tensor": "t", "digest": name} for p in PROBES for name in answers},
        "generation": {f"{p}/{name}": {"tensor": "t", "digest": name} for p in PROBES for name in ways},
        "gradients": {f"{name}.weight": {"gradient": "t", "digest": name} for name in WEIGHTS},
        "written": {f"{name}.weight": {"dtype": "bfloat16", "shape": "[2]"} for name in WEIGHTS},
    }


def _tensor(digest: str) -> Observation:
    return {"dtype": "bfloat16", "shape": "[2]", "device": "cpu", "requires_grad": True, "tied_to": None} | {
        "digest": digest
    }


def differ_from(model: Model, first: str, *, probes: Sequence[str] = PROBES) -> None:
    """Let all that comes after a place of a trace differ: the trace, what is answered, and the gradients."""
    for probe in probes:
        places = [place for place in model["trace"] if place.startswith(f"{probe}/")]
        start = next((i for i, place in enumerate(places) if place == f"{probe}/{first}"), None)
        if start is None:
            continue
        for place in places[start:]:
            model["trace"][place] = {"tensor": "t", "digest": "other"}
        for section in ("outputs", "generation"):
            for place in model[section]:
                if place.startswith(f"{probe}/") and "rng_state" not in place:
                    model[section][place] = {"tensor": "t", "digest": "other"}
    for place in model["gradients"]:
        model["gradients"][place] = {"gradient": "t", "digest": "other"}


def findings_between(reference: Model, candidate: Model) -> list[Finding]:
    """What the checks of a comparison find."""
    findings = [f for name in STATE_SECTIONS for f in diff_section(name, reference[name], candidate[name])]
    for probe in PROBES:
        sides = [
            {s: {k: v for k, v in model[s].items() if k.startswith(f"{probe}/")} for s in PROBE_SECTIONS}
            for model in (reference, candidate)
        ]
        first = diff_trace(sides[0]["trace"], sides[1]["trace"])
        findings += [first] if first is not None else []
        findings += [f for s in ("outputs", "generation") for f in diff_section(s, sides[0][s], sides[1][s])]
    findings += diff_section("gradients", reference["gradients"], candidate["gradients"])
    findings += [
        replace(f, code=f"round_trip.written_{f.field}", location=f"written/{f.location}", section="round_trip")
        for f in diff_section("written", reference["written"], candidate["written"])
    ]
    return findings


def explain_between(
    candidate: Model, evidence: Evidence | None = None, *, more: Sequence[Finding] = ()
) -> tuple[Finding, ...]:
    """All findings of the small model against a candidate, explained; nothing in them contradicts anything else."""
    reference = small_model()
    findings = [*findings_between(reference, candidate), *more]
    if evidence is None:
        places = {}
        for name in STATE_SECTIONS:
            places |= differing_places(name, reference[name], candidate[name])
        evidence = Evidence(compared=frozenset(STATE_SECTIONS), places=places)
    explained = explain(findings, evidence)
    assert [(f.code, f.location) for f in explained] == [(f.code, f.location) for f in findings]
    assert contradictions(explained) == ()
    return explained


def roots_of(findings: Sequence[Finding]) -> list[str]:
    """The keys of the roots."""
    return [finding.key for finding in findings if finding.explained_by is None]


def changed(**sections: Section) -> Model:
    """The small model with some observations replaced, field by field."""
    model = copy.deepcopy(small_model())
    for name, section in sections.items():
        for location, seen in section.items():
            model[name][location] = {**model[name].get(location, {}), **seen}
    return model
