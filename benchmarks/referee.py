"""How often the referee is right: benign variants and faults of the catalogue, judged beside four usual tolerances.

    python -m benchmarks.referee --dtype float32 --json seen.json        # goes on where the file ends
    python -m benchmarks.referee --dtype float32 --json seen.json --table

Reference, truth and each variant are fingerprinted with sketches in one process, on the tiny checkpoint. A variant of
`benchmarks/benign.py` that is judged different is a false alarm; a fault whose forward is visible (its logits are
not the reference's bits) and that is not judged different is missed. Faults that are none where numbers may round
otherwise (another attention, a compiled module, kernel flags) count as benign.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.benign import BENIGN
from theworld.synthetic import cached_checkpoint, write_checkpoint
from theworld_validate.compare.judgement import Judgement, judge
from theworld_validate.documents.observations import Fingerprint
from theworld_validate.documents.writing import write_file
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.fingerprint.behaviour import to_tensors
from theworld_validate.fingerprint.take import take_fingerprint
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.probes.probe import Probe, choose_probes
from theworld_validate.results import Plan
from theworld_validate.subjects.checkpoints import read_config
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET
from theworld_validate.workers import preload  # noqa: F401  it keeps the libraries quiet

TRUTH = {"float32": "float64", "bfloat16": "float32", "float16": "float32"}
SECTIONS = ("config", "modules", "parameters", "buffers", "globals", "trace", "outputs", "generation", "gradients")
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
COSINE, KL = 0.999, 1e-3  # what people take


@dataclass
class Seen:
    """One variant: its fingerprint, and its logits for the usual tolerances."""

    fingerprint: Fingerprint
    logits: list[torch.Tensor]


@contextlib.contextmanager
def restored_globals() -> Iterator[None]:
    """Leave torch's global state as it was, whatever a variant does to it."""
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
            torch.set_num_threads(threads)


def see(model: Any, probes: list[Probe]) -> Seen:
    """Fingerprint a model, and run its probes once more for the logits."""
    fingerprint = take_fingerprint(model, probes, sketch=True, round_trip=False)
    with torch.no_grad():
        logits = [model(**to_tensors(probe, model)).logits for probe in probes]
    return Seen(fingerprint=fingerprint, logits=logits)


def tolerances(expected: list[torch.Tensor], actual: list[torch.Tensor]) -> dict[str, bool]:
    """Which of the usual tolerances tell the two apart."""
    told = dict.fromkeys(("assert_close", "cosine", "kl", "argmax"), False)
    for one, other in zip(expected, actual, strict=True):
        if one.shape != other.shape:
            return dict.fromkeys(told, True)
        try:
            torch.testing.assert_close(other, one)
        except AssertionError:
            told["assert_close"] = True
        a, b = one.double(), other.double()
        log_a, log_b = a.log_softmax(-1), b.log_softmax(-1)
        kl = (log_a.exp() * (log_a - log_b)).sum(-1).mean()
        cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        told["cosine"] |= not float(cosine) >= COSINE
        told["kl"] |= not float(kl) <= KL
        told["argmax"] |= not torch.equal(a.argmax(-1), b.argmax(-1))
    return told


def variants(checkpoint: str, dtype: str, seeds: dict[str, str]) -> Iterator[tuple[str, str, Callable[[], Any], Any]]:
    """Name, kind, loader and context of everything that is judged; kind is "benign" or "fault"."""

    def load(folder: str, **arguments: Any) -> Any:
        from transformers import Gemma3ForConditionalGeneration

        torch.manual_seed(0)
        return Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, dtype), **arguments)

    def load_benign(way: Any, folder: str) -> Any:
        if way.load is not None:
            with tempfile.TemporaryDirectory() as scratch:
                return way.load(folder, load, Path(scratch))
        model = load(folder)
        way.inject(model)
        return model

    for name, way in BENIGN.items():
        yield name, "benign", lambda way=way: load_benign(way, checkpoint), way.around
    for seed, folder in seeds.items():
        for name in ("eager-attention", "sums-in-two-pieces", "norms-by-division", "eager-and-products-in-pieces"):
            way = BENIGN[name]
            yield f"{name}, {seed}", "benign", lambda way=way, folder=folder: load_benign(way, folder), way.around
    subject = Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint, dtype=dtype)
    for name, fault in CATALOGUE.items():
        if fault.folder is None and fault.group != "training" and not fault.needs_cuda:
            kind = "benign" if name in OF_COMPUTING else "fault"
            yield f"fault {name}", kind, lambda fault=fault: fault.load_spoilt(subject), fault.around


def row_of(name: str, kind: str, judgement: Judgement, told: dict[str, bool], same: bool, seconds: float) -> dict:
    """What is kept of one variant."""
    first, worst = judgement.first, judgement.worst
    return {
        "name": name,
        "kind": kind,
        "verdict": str(judgement.verdict),
        "first": None if first is None else f"{first.code}@{first.location}",
        "exact": [f"{f.code}@{f.location}" for f in judgement.exact],
        "missing": [*judgement.missing, *(line for part in judgement.parts for line in part.missing)][:3],
        "worst": {
            part.name: None if part.worst is None else [round(part.worst.ratio, 3), part.worst.location]
            for part in judgement.parts
        },
        "worst_ratio": None if worst is None else round(worst.ratio, 3),
        "number_findings": [f"{f.code}@{f.location}={f.actual}" for part in judgement.parts for f in part.findings],
        "logits_equal": same,
        "told_by": told,
        "seconds": round(seconds, 2),
    }


def run(dtype: str, path: Path, only: list[str], budget_seconds: float, names: list[str]) -> None:
    """Judge every variant that the file does not have yet, and write it after each."""
    done = json.loads(path.read_text()) if path.exists() else {"dtype": dtype, "rows": []}
    known = {row["name"] for row in done["rows"]}
    started = time.perf_counter()
    checkpoint = str(cached_checkpoint("tiny").gemma)
    with tempfile.TemporaryDirectory() as scratch:
        seeds = {}
        for seed in (1, 2):
            made = write_checkpoint("tiny", Path(scratch, f"seed{seed}"), seed=seed)
            seeds[f"weights of seed {seed}"] = str(made.gemma)
        bases: dict[str, tuple[Seen, Fingerprint]] = {}
        for name, kind, load, around in variants(checkpoint, dtype, seeds):
            if name in known or (only and not any(word in name for word in only)):
                continue
            if time.perf_counter() - started > budget_seconds:
                print("out of time: run again to go on", file=sys.stderr)
                return
            folder = next((place for seed, place in seeds.items() if name.endswith(seed)), checkpoint)
            asked = choose_probes(build_probes(read_config(folder)), names)
            probes = [probe for probe in asked if not probe.decode_steps]
            if folder not in bases:
                subject = Subject(target=REFERENCE_TARGET, checkpoint=folder, dtype=dtype)
                with restored_globals():
                    base = see(subject.load(), probes)
                with restored_globals():
                    wide = Subject(target=REFERENCE_TARGET, checkpoint=folder, dtype=TRUTH[dtype]).load()
                    true = take_fingerprint(wide, probes, sketch=True, round_trip=False)
                bases[folder] = base, true
            base, true = bases[folder]
            begun = time.perf_counter()
            plan = Plan(sections=SECTIONS, probes=tuple(probe.name for probe in probes))
            with restored_globals():
                try:
                    with around():
                        seen = see(load(), probes)
                except Exception as error:  # it stops on the fault, or the variant cannot be had here
                    done["rows"].append({"name": name, "kind": kind, "error": f"{type(error).__name__}: {error}"[:300]})
                    print(f"{name}: {type(error).__name__}", file=sys.stderr, flush=True)
                    continue
            judgement = judge(base.fingerprint, seen.fingerprint, true, plan=plan)
            same = all(map(torch.equal, base.logits, seen.logits))
            told = tolerances(base.logits, seen.logits)
            row = row_of(name, kind, judgement, told, same, time.perf_counter() - begun)
            done["rows"].append(row)
            write_file(path, json.dumps(done, indent=1) + "\n", option="--json")
            print(
                f"{kind:7} {name:44} {row['verdict']:12} {row['worst_ratio']} {row['first']}",
                file=sys.stderr,
                flush=True,
            )


METHODS = {
    "referee": "the referee (`--accept equivalent`)",
    "strict": "strict parity: any bit",
    "assert_close": "`torch.testing.assert_close` of logits",
    "cosine": f"cosine of logits below {COSINE}",
    "kl": f"KL of logits above {KL:g}",
    "argmax": "argmax of logits",
}


def tells(row: dict[str, Any], method: str) -> bool:
    """Whether a method tells a variant from the reference."""
    if method == "referee":
        return row["verdict"] == "different"
    return row["verdict"] != "identical" if method == "strict" else row["told_by"][method]


def print_table(path: Path) -> None:
    """Both error rates of each method, and what the bounds rest on."""
    seen = json.loads(path.read_text())
    rows = [row for row in seen["rows"] if "error" not in row]
    benign = [row for row in rows if row["kind"] == "benign"]
    faults = [row for row in rows if row["kind"] == "fault"]
    visible = [row for row in faults if not row["logits_equal"]]
    print(f"{seen['dtype']}: {len(benign)} benign variants, {len(faults)} faults, {len(visible)} visible in logits")
    print("| method | benign variants told apart | forward-visible faults missed | all faults missed |")
    print("|---|---|---|---|")
    for method, name in METHODS.items():
        alarms = sum(tells(row, method) for row in benign)
        missed = [sum(not tells(row, method) for row in group) for group in (visible, faults)]
        print(f"| {name} | {alarms} of {len(benign)} | {missed[0]} of {len(visible)} | {missed[1]} of {len(faults)} |")
    for part in ("forward", "gradients"):
        worst = [
            (found[0], row["name"], found[1])
            for row in benign
            for name, found in row["worst"].items()
            if found is not None and (name == "gradients") == (part == "gradients")
        ]
        if worst:
            print(f"{part}: the worst benign ratio is {max(worst)}")
    for row in [*(r for r in benign if tells(r, "referee")), *(r for r in visible if not tells(r, "referee"))]:
        print(f"wrong: {row['kind']} {row['name']}: {row['verdict']}, {row['first']}, {row['missing'][:1]}")
    by_number = [row for row in visible if not row["exact"] and tells(row, "referee")]
    if by_number:
        least = min(by_number, key=lambda row: row["worst_ratio"])
        print(f"told by numbers alone: {len(by_number)}; the least ratio: {least['worst_ratio']} {least['name']}")
    for row in seen["rows"]:
        if "error" in row:
            print(f"stopped: {row['kind']} {row['name']}: {row['error']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=sorted(TRUTH), default="float32")
    parser.add_argument("--json", type=Path, required=True, help="what was seen; it is gone on with")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only variants with this in them")
    parser.add_argument("--probe", action="append", default=[], metavar="NAME", help="only these probes")
    parser.add_argument("--seconds", type=float, default=800, help="stop before the next variant after so long")
    parser.add_argument("--table", action="store_true", help="print what was seen, and run nothing")
    options = parser.parse_args()
    if options.table:
        print_table(options.json)
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    run(options.dtype, options.json, options.only, options.seconds, options.probe)


if __name__ == "__main__":
    main()
