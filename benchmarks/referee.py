"""How often the referee is right: benign variants and faults of the catalogue, judged beside four usual tolerances.

    python -m benchmarks.referee --dtype float32 --json seen.json --keep DIR      # goes on where the file ends
    python -m benchmarks.referee --dtype float32 --json seen.json --keep DIR --judge-again
    PYTHONPATH=RELEASE:... python -m benchmarks.referee --json seen.json --keep DIR --here transformers-5.22.2
    python -m benchmarks.error_rates seen.json

Reference, truth and each variant are fingerprinted with sketches in one process, on the tiny checkpoint, by every
probe. Faults of the catalogue that only say how something is computed (another attention, a compiled module, kernel
flags) count as benign; those of files and of training are in no loaded model. What is kept of each is a `Row`;
fingerprints stay in the folder DIR, and can be judged again without any model; `--here` adds the plain checkpoint, as
another environment computes it, to what one has begun.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.benign import BENIGN, Benign
from benchmarks.judged_rows import Row, read_rows, write_rows
from benchmarks.restoring import restored_globals
from benchmarks.tolerances import MOST, distances_between
from theworld.synthetic import cached_checkpoint, write_checkpoint
from theworld_validate.compare.differences import aligned_section, diff_section
from theworld_validate.compare.judgement import Judgement, judge
from theworld_validate.compare.rounding import WIDER, Missing, Rounding
from theworld_validate.documents.fingerprint import make_file, read_fingerprint, write_fingerprint
from theworld_validate.documents.observations import PROBE_SECTIONS, Fingerprint
from theworld_validate.environment import describe_environment
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.fingerprint.behaviour import to_tensors
from theworld_validate.fingerprint.take import take_fingerprint
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.probes.probe import Probe
from theworld_validate.results import Finding, Plan
from theworld_validate.subjects.checkpoints import read_config
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET
from theworld_validate.workers import preload  # noqa: F401  it keeps the libraries quiet

SECTIONS = ("config", "modules", "parameters", "buffers", "globals", "trace", "outputs", "generation", "gradients")
SEEDS = (1, 2)  # further weights, on which some variants are tried again
ON_OTHER_WEIGHTS = ("eager-attention", "sums-in-two-pieces", "norms-by-division", "eager-and-products-in-pieces")
# Faults of the catalogue that only say how something is computed: the referee must call them equivalent.
OF_COMPUTING = {
    "eager-attention",
    "attention-lost-in-vision",
    "attention-lost-in-text",
    "compiled-module",
    "run-in-a-larger-batch",
    "matmul-precision-lowered",
    "tf32-switched-on",
    "reductions-switched",
    "cudnn-benchmark-on",
    "fewer-threads",
    "patched-forward",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is judged: where it is loaded from, how, and in which context."""

    name: str
    kind: str
    group: str = ""
    folder: str
    load: Callable[[], Any]
    around: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A fingerprint, and for each probe the logits (N, V) of its tokens without padding."""

    fingerprint: Fingerprint
    logits: list[torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What variants of one folder are judged against."""

    reference: Seen
    truth: Fingerprint
    probes: tuple[Probe, ...]

    @property
    def plan(self) -> Plan:
        return Plan(sections=SECTIONS, probes=tuple(probe.name for probe in self.probes))


def see(model: Any, probes: tuple[Probe, ...]) -> Seen:
    """Fingerprint a model, and run its probes once more for the logits."""
    fingerprint = take_fingerprint(model, probes, sketch=True, round_trip=False)
    logits = []
    with torch.no_grad():
        for probe in probes:
            is_token = torch.from_numpy(probe.inputs["attention_mask"]) == 1
            logits.append(model(**to_tensors(probe, model)).logits[is_token].clone())
    return Seen(fingerprint=fingerprint, logits=logits)


def variants(checkpoint: str, dtype: str, seeds: dict[str, str]) -> Iterator[Variant]:
    """Everything that is judged: benign ways, the same on other weights, and the catalogue."""

    def load(folder: str, **arguments: Any) -> Any:
        from transformers import Gemma3ForConditionalGeneration

        torch.manual_seed(0)
        return Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype), **arguments)

    def load_benign(way: Benign, folder: str) -> Any:
        if way.load is not None:
            with tempfile.TemporaryDirectory() as scratch:
                return way.load(folder, load, Path(scratch))
        model = load(folder)
        way.inject(model)
        return model

    def benign(way: Benign, folder: str, name: str) -> Variant:
        loader = lambda: load_benign(way, folder)  # noqa: E731
        return Variant(name=name, kind="benign", folder=folder, load=loader, around=way.around)

    for name, way in BENIGN.items():
        yield benign(way, checkpoint, name)
    for seed, folder in seeds.items():
        for name in ON_OTHER_WEIGHTS:
            yield benign(BENIGN[name], folder, f"{name}, {seed}")
    subject = Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint, dtype=dtype)
    for name, fault in CATALOGUE.items():
        if fault.folder is None and fault.group != "training" and (not fault.needs_cuda or torch.cuda.is_available()):
            yield Variant(
                name=f"fault {name}",
                kind="benign" if name in OF_COMPUTING else "fault",
                group=fault.group,
                folder=checkpoint,
                load=lambda fault=fault: fault.load_spoilt(subject),
                around=fault.around,
            )


def judged_row(row: Row, base: Base, candidate: Fingerprint) -> Row:
    """A row with what the referee, and strict parity, say of a fingerprint."""
    ours, truth = base.reference.fingerprint, base.truth
    judgement = judge(ours, candidate, truth, plan=base.plan)
    numbers = [finding for part in judgement.parts if part.name != "gradients" for finding in part.findings]
    gradients = [finding for part in judgement.parts if part.name == "gradients" for finding in part.findings]
    return replace(
        row,
        differs={name: _count_differences(name, ours, candidate) for name in PROBE_SECTIONS},
        verdict=str(judgement.verdict),
        exact=[f"{f.code}@{f.location}" for f in judgement.exact],
        numbers=_shown(numbers),
        gradients=_shown(gradients),
        missing=[*judgement.missing, *(line for part in judgement.parts for line in part.missing)][:5],
        worst=_worst(judgement),
        logits_ratio=_logits_ratio(base, candidate),
    )


def _shown(findings: list[Finding]) -> list[str]:
    """The first findings of each kind: those of a ratio, and those of what has no rounding."""
    lines = [f"{finding.code}@{finding.location}={finding.actual}" for finding in findings]
    return [*[line for line in lines if ".ratio@" not in line][:5], *[line for line in lines if ".ratio@" in line][:3]]


def _count_differences(section: str, reference: Fingerprint, candidate: Fingerprint) -> int:
    ours = reference.sections.get(section, {})
    theirs = aligned_section(section, ours, candidate.sections.get(section, {}))
    return sum(finding.severity == "error" for finding in diff_section(section, ours, theirs))


def _worst(judgement: Judgement) -> dict[str, tuple[float, str]]:
    parts = [part for part in judgement.parts if part.worst is not None]
    return {part.name: (part.worst.ratio, part.worst.location) for part in parts if part.worst is not None}


def _logits_ratio(base: Base, candidate: Fingerprint) -> float | None:
    """What the referee would have if it saw no more than the tolerances do."""
    rounding = Rounding(base.reference.fingerprint, candidate, base.truth, None)
    ratios = []
    for probe in base.probes:
        place = f"{probe.name}/logits"
        sides = [side.sections.get("outputs", {}).get(place) for side in (base.reference.fingerprint, candidate)]
        if sides[0] == sides[1]:
            continue
        try:
            ratios.append(rounding.ratio_at("outputs", place).ratio)
        except Missing:
            ratios.append(MOST)
    return max(ratios, default=None)


class Kept:
    """Fingerprints and the bases' logits in a folder, so that nothing has to be run twice."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self._folder, self._dtype = folder, dtype

    def _path(self, name: str) -> Path:
        return self._folder / (re.sub(r"[^a-z0-9.]+", "-", name.lower()) + ".json")

    def has(self, name: str) -> bool:
        return self._path(name).exists()

    def write(self, name: str, fingerprint: Fingerprint) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        subject = Subject(target=REFERENCE_TARGET, checkpoint="tiny", dtype=self._dtype).record("model")
        plan = Plan(sections=SECTIONS, probes=())
        file = make_file(fingerprint, subject=subject, environment=describe_environment(), plan=plan)
        write_fingerprint(file, self._path(name))

    def read(self, name: str) -> Fingerprint:
        return read_fingerprint(self._path(name)).fingerprint

    def base_of(self, folder: str, name: str) -> Base:
        """The reference and the truth of a checkpoint; taken once."""
        probes = tuple(build_probes(read_config(folder)))
        reference, truth, logits = f"reference of {name}", f"truth of {name}", self._path(f"logits of {name}")
        if not self.has(truth):
            with restored_globals():
                seen = see(Subject(target=REFERENCE_TARGET, checkpoint=folder, dtype=self._dtype).load(), probes)
            with restored_globals():
                wide = Subject(target=REFERENCE_TARGET, checkpoint=folder, dtype=WIDER[self._dtype]).load()
                true = take_fingerprint(wide, probes, sketch=True, round_trip=False)
            self.write(reference, seen.fingerprint)
            save_file({str(i): one for i, one in enumerate(seen.logits)}, logits.with_suffix(".safetensors"))
            self.write(truth, true)
        kept = load_file(logits.with_suffix(".safetensors"))
        seen = Seen(fingerprint=self.read(reference), logits=[kept[str(i)] for i in range(len(kept))])
        return Base(reference=seen, truth=self.read(truth), probes=probes)


def run(options: argparse.Namespace) -> None:
    """Judge every variant that the file does not have yet, and write it after each."""
    rows = {row.name: row for row in read_rows(options.json)}
    libraries = {name: str(version) for name, version in describe_environment().packages.items() if version}
    kept = Kept(options.keep, options.dtype)
    started = time.perf_counter()
    checkpoint = str(cached_checkpoint("tiny").gemma)
    with tempfile.TemporaryDirectory() as scratch:
        seeds = {
            f"weights of seed {seed}": str(write_checkpoint("tiny", Path(scratch, f"seed{seed}"), seed=seed).gemma)
            for seed in SEEDS
        }
        names = {checkpoint: "tiny"} | {folder: seed for seed, folder in seeds.items()}
        bases: dict[str, Base] = {}
        here = Subject(target=REFERENCE_TARGET, checkpoint=checkpoint, dtype=options.dtype)
        chosen = variants(checkpoint, options.dtype, seeds)
        if options.here is not None:
            chosen = iter([Variant(name=options.here, kind="environment", folder=checkpoint, load=here.load)])
        for variant in chosen:
            is_known = variant.name in rows
            if is_known != options.judge_again or (options.only and not any(w in variant.name for w in options.only)):
                continue
            if options.judge_again and not kept.has(variant.name):
                continue
            if time.perf_counter() - started > options.seconds:
                print("out of time: run again to go on", file=sys.stderr)
                return
            base = bases.get(variant.folder) or kept.base_of(variant.folder, names[variant.folder])
            bases[variant.folder] = base
            if options.judge_again:
                rows[variant.name] = judged_row(rows[variant.name], base, kept.read(variant.name))
            else:
                rows[variant.name] = _try(variant, base, kept)
            write_rows(options.json, list(rows.values()), dtype=options.dtype, libraries=libraries)
            _tell(rows[variant.name])


def _try(variant: Variant, base: Base, kept: Kept) -> Row:
    begun = time.perf_counter()
    row = Row(name=variant.name, kind=variant.kind, group=variant.group)
    with restored_globals():
        try:
            with variant.around():
                seen = see(variant.load(), base.probes)
        except Exception as error:  # it stops on the fault, or the variant cannot be had here
            return replace(row, error=f"{type(error).__name__}: {error}"[:300])
    kept.write(variant.name, seen.fingerprint)
    row = replace(row, distances=distances_between(base.reference.logits, seen.logits))
    row = judged_row(row, base, seen.fingerprint)
    return replace(row, seconds=round(time.perf_counter() - begun, 2))


def _tell(row: Row) -> None:
    ratio = f"{row.ratio:.3g} {row.gradient_ratio:.3g}"
    line = f"{row.kind:7} {row.name:44} {row.verdict:12} {ratio} {(row.exact or row.numbers or row.missing)[:1]}"
    print(row.error or line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=sorted(WIDER), default="float32")
    parser.add_argument("--json", type=Path, required=True, help="what was seen; it is gone on with")
    parser.add_argument("--keep", type=Path, required=True, help="folder of the fingerprints")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only variants with this in them")
    parser.add_argument("--seconds", type=float, default=800, help="stop before the next variant after so long")
    parser.add_argument("--here", metavar="NAME", help="only the plain checkpoint in this environment, under this name")
    parser.add_argument("--judge-again", action="store_true", help="judge what is kept, and run no model")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    run(options)


if __name__ == "__main__":
    main()
