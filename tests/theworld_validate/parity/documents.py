"""Small fingerprints for the judge's tests: every section, one tensor or value each, as a worker delivers them."""

from dataclasses import replace

from theworld_validate.documents.observations import SECTIONS, Failure, Fingerprint, Section
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.results import CheckResult, Plan

PROBES = ("text", "image")
PLAN = Plan(sections=SECTIONS, probes=PROBES)
_TEXT = "model.language_model"
WEIGHT, BUFFER = f"{_TEXT}.layers.0.mlp.up_proj.weight", f"{_TEXT}.rotary_emb.inv_freq"
EMBED, NORM = f"{_TEXT}.embed_tokens", f"{_TEXT}.norm"


def digest_of(number: int) -> str:
    return f"{number:032x}"


def tensor(number: int, **fields: str | bool | None) -> dict[str, str | bool | None]:
    return {"dtype": "bfloat16", "shape": "[2]", **fields, "digest": digest_of(number)}


def of_probes(places: dict[str, int]) -> Section:
    return {f"{probe}/{place}": {"digest": digest_of(number)} for probe in PROBES for place, number in places.items()}


def whole() -> Fingerprint:
    """Everything that the plan asks for, of a model that comes back from a round trip as it was."""
    state = {
        "config": {"config.hidden_size": {"value": 2}},
        "parameters": {WEIGHT: tensor(1)},
        "buffers": {BUFFER: tensor(2)},
    }
    return Fingerprint(
        sections={
            "files": {"(summary)": {"keys": 1, "bytes": 4}},
            **state,
            "modules": {"(model)": {"class": "Gemma3", "training": False}},
            "globals": {"rng_state_cpu": {"value": "a"}},
            "trace": of_probes({EMBED: 10, NORM: 11}),
            "outputs": of_probes({"logits": 12, "loss": 13}),
            "generation": of_probes({"greedy": 14}),
            "gradients": {WEIGHT: tensor(15)},
            "round_trip": {
                f"written/{WEIGHT}": {"dtype": "bfloat16", "shape": "[2]"},
                **{f"{name}/{key}": seen for name, section in state.items() for key, seen in section.items()},
                **{f"base/{name}/{key}": state[name][key] for name in ("parameters", "buffers") for key in state[name]},
            },
        },
        num_bytes={"parameters": 4, "buffers": 4, "gradients": 4, "round_trip": 8},
    )


def without(fingerprint: Fingerprint, section: str, prefix: str = "") -> Fingerprint:
    """Take a section out, or the places of it that begin so."""
    sections = {**fingerprint.sections}
    left = {place: seen for place, seen in sections.pop(section).items() if not place.startswith(prefix)}
    return replace(fingerprint, sections={**sections, **({section: left} if prefix else {})})


def with_places(fingerprint: Fingerprint, section: str, places: Section) -> Fingerprint:
    """Put places into a section; those that are there are replaced."""
    sections = fingerprint.sections
    return replace(fingerprint, sections={**sections, section: {**sections.get(section, {}), **places}})


def raising(fingerprint: Fingerprint, section: str, probe: str | None = None) -> Fingerprint:
    """What a section lacks because its observation raised."""
    failure = Failure(section=section, probe=probe, error="KeyError: 'x'", place="model.py:7", code="x['x']")
    return replace(fingerprint, failures=(*fingerprint.failures, failure))


def judged(
    reference: Fingerprint,
    candidate: Fingerprint,
    *,
    control: Fingerprint | None = None,
    plan: Plan = PLAN,
    reference_ended: str | None = None,
    candidate_ended: str | None = None,
) -> dict[str, CheckResult]:
    """The judge's checks, by what follows "parity." in their ids."""
    comparison = Comparison(
        plan=plan,
        reference=Side(fingerprint=reference, ended=reference_ended),
        candidate=Side(fingerprint=candidate, ended=candidate_ended),
        control=None if control is None else Side(fingerprint=control, ended=reference_ended),
    )
    return {check.id.removeprefix("parity."): check for check in judge(comparison)}
