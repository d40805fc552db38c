"""The same faults, seen by this harness and by what people use instead; prints a table.

    python -m benchmarks.comparison [--json FILE]

Every method is given the same reference, the same faulty candidates and the same probes, in one process. A fault is
caught if the method tells the candidate from the reference; it is located if the first place that the method names
is where the self-test says the fault shows. The control is a candidate without a fault: whatever it is told from
the reference by is a false alarm.
"""

import argparse
import contextlib
import importlib.util
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.restoring import restored_globals
from theworld.synthetic import cached_checkpoint
from theworld_validate.compare.explain import rank_roots
from theworld_validate.documents.compact_json import compact_json
from theworld_validate.documents.fingerprint import make_file, write_fingerprint
from theworld_validate.documents.observations import Fingerprint, whole_plan
from theworld_validate.environment import describe_environment
from theworld_validate.faults.catalogue import CATALOGUE
from theworld_validate.fingerprint.behaviour import to_tensors
from theworld_validate.fingerprint.take import take_fingerprint
from theworld_validate.parity.causes import explain_checks, gather_evidence
from theworld_validate.parity.judge import Comparison, Side, judge
from theworld_validate.probes.gemma3 import build_probes
from theworld_validate.probes.probe import Probe
from theworld_validate.results import Status
from theworld_validate.subjects.checkpoints import read_config
from theworld_validate.subjects.subject import Subject
from theworld_validate.target import CANDIDATE_TARGET, REFERENCE_TARGET
from theworld_validate.workers import preload  # noqa: F401  it keeps the libraries quiet

Places = list[str] | None  # None: equal; otherwise what the method names, first place first; it may be nothing


@dataclass
class Tally:
    """What one method did over all faults."""

    caught: int = 0
    located: int = 0
    false_alarms: int = 0
    seconds: list[float] = field(default_factory=list)
    stored_bytes: int = 0


class Method:
    """One way to compare: `see` a model, then `compare` what was seen with the reference's."""

    name: str

    def see(self, model: Any, probes: Sequence[Probe]) -> Any:
        raise NotImplementedError

    def compare(self, expected: Any, actual: Any, models: tuple[Any, Any], probes: Sequence[Probe]) -> Places:
        raise NotImplementedError

    def stored_bytes(self, seen: Any) -> int:
        raise NotImplementedError


class Fingerprints(Method):
    name = "theworld-validate parity"

    def see(self, model: Any, probes: Sequence[Probe]) -> Any:
        return take_fingerprint(model, probes)

    def compare(self, expected: Fingerprint, actual: Fingerprint, _models: Any, probes: Sequence[Probe]) -> Places:
        """Without the second look, which loads both sides again."""
        plan = whole_plan(tuple(probe.name for probe in probes))
        sides = (Side(fingerprint=expected), Side(fingerprint=actual))
        files = {"(summary)": {"keys": 1}}
        comparison = Comparison(plan=plan, reference=sides[0], candidate=sides[1], files=files)
        checks = explain_checks(list(judge(comparison)), gather_evidence(comparison, {}))
        found = [f for check in checks if check.status is Status.FAILED for f in check.findings]
        return [root.location for root in rank_roots(found)] or None

    def stored_bytes(self, seen: Any) -> int:
        with tempfile.TemporaryDirectory() as folder:
            subject = Subject(target=REFERENCE_TARGET, checkpoint="tiny").record("model")
            made = make_file(seen, subject=subject, environment=describe_environment(), plan=whole_plan(()))
            return write_fingerprint(made, Path(folder, "seen.json")).stat().st_size


class Logits(Method):
    def __init__(self, name: str, differ: Callable[[torch.Tensor, torch.Tensor], bool]) -> None:
        self.name = name
        self._differ = differ

    def see(self, model: Any, probes: Sequence[Probe]) -> Any:
        with torch.no_grad():
            return [model(**to_tensors(probe, model)).logits for probe in probes]

    def compare(self, expected: Any, actual: Any, *_: Any) -> Places:
        return [] if any(map(self._differ, expected, actual)) else None

    def stored_bytes(self, seen: Any) -> int:
        return sum(logits.nbytes for logits in seen)


def not_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return not torch.equal(one, other)


def not_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    try:
        torch.testing.assert_close(other, one)
    except AssertionError:
        return True
    return False


class Tokens(Logits):
    def see(self, model: Any, probes: Sequence[Probe]) -> Any:
        length = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "top_k": None, "top_p": None}
        return [model.generate(**to_tensors(probe, model), **length) for probe in probes]


class DebugModeHashes(Method):
    name = "torch DebugMode, hash_tensor"

    def see(self, model: Any, probes: Sequence[Probe]) -> Any:
        from torch.utils._debug_mode import DebugMode

        logs = []
        for probe in probes:
            inputs = to_tensors(probe, model)
            with (
                torch.no_grad(),
                DebugMode(record_nn_module=True) as mode,
                DebugMode.log_tensor_hashes(hash_fn="hash_tensor"),
            ):
                model(**inputs)
            for entry in mode.logs:  # tags start with the root's class, and the candidate's is another
                if hasattr(entry, "tag"):
                    entry.tag = entry.tag.partition(".")[2]
            logs.append(mode.logs)
        return logs

    def compare(self, expected: Any, actual: Any, *_: Any) -> Places:
        from torch.utils._debug_mode import DebugMode

        differing: list[str] = []
        for one, other in zip(expected, actual, strict=True):
            try:
                mismatches = DebugMode.check_hash_mismatches(one, other)
            except ValueError:  # another sequence of operations: it says so, and no more
                differing.append("")
                continue
            if mismatches:
                differing.append(self._module_of(one, other, mismatches[0]["call"]))
        return differing or None

    @staticmethod
    def _module_of(one: Sequence[Any], other: Sequence[Any], call: str) -> str:
        """The module in which the first differing call lies, as the log's annotations tell."""
        inside: dict[int, str] = {}
        for mine, theirs in zip(one, other, strict=True):
            inside = {depth: name for depth, name in inside.items() if depth < mine.call_depth}
            if getattr(mine, "header", "") == "nn.Mod":
                inside[mine.call_depth] = mine.tag
            if (mine.log or {}).get("hash") != (theirs.log or {}).get("hash"):
                return list(inside.values())[-1] if inside else call
        return call

    def stored_bytes(self, seen: Any) -> int:
        return sum(len(str(entry)) + len(str(entry.log)) for log in seen for entry in log)


class AdditionDebugger(Method):
    name = "transformers model_addition_debugger_context"

    def see(self, model: Any, probes: Sequence[Probe]) -> Any:
        from transformers.model_debugging_utils import model_addition_debugger_context

        trees = []
        for probe in probes:
            with tempfile.TemporaryDirectory() as folder:
                inputs = to_tensors(probe, model)
                with torch.no_grad(), model_addition_debugger_context(model, folder, do_prune_layers=False):
                    model(**inputs)
                (path,) = Path(folder).glob("*FULL_TENSORS.json")
                trees.append(path.read_text(encoding="utf-8"))
        return trees

    def compare(self, expected: Any, actual: Any, *_: Any) -> Places:
        differing = []
        for one, other in zip(expected, actual, strict=True):
            seen = [_without_addresses(list(_leaves_first(json.loads(tree)))) for tree in (one, other)]
            if seen[0] != seen[1]:
                pairs = zip(*seen, strict=False)
                differing.append(next((mine[0] for mine, theirs in pairs if mine != theirs), ""))
        return differing or None

    def stored_bytes(self, seen: Any) -> int:
        return sum(len(tree) for tree in seen)


class MsProbe(Method):
    """Statistics with checksums of every module's inputs, outputs and parameters (its level L0)."""

    name = "msprobe, statistics and checksums, level L0"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._num_steps = 0
        self._debugger: Any = None

    def see(self, model: Any, probes: Sequence[Probe]) -> Any:
        from msprobe.pytorch import PrecisionDebugger

        dumps = Path(self._folder.name, "dumps")
        if self._debugger is None:
            statistics = {"scope": [], "list": [], "data_mode": ["all"], "summary_mode": "md5"}
            settings = {"task": "statistics", "dump_path": str(dumps), "rank": [], "step": [], "level": "L0"}
            path = Path(self._folder.name, "config.json")
            path.write_text(json.dumps({**settings, "statistics": statistics}), encoding="utf-8")
            self._debugger = PrecisionDebugger(config_path=str(path))
        seen = []
        for probe in probes:
            inputs = to_tensors(probe, model)
            self._debugger.start(model=model)
            with torch.no_grad():
                model(**inputs)
            self._debugger.stop()
            self._debugger.step()
            (dump,) = dumps.glob(f"step{self._num_steps}/*/dump.json")
            self._num_steps += 1
            seen.append(json.loads(dump.read_text(encoding="utf-8"))["data"])
        if not any(seen):
            raise AssertionError("msprobe recorded nothing")
        return seen

    def compare(self, expected: Any, actual: Any, *_: Any) -> Places:
        differing = []
        for one, other in zip(expected, actual, strict=True):
            if one != other:
                differing.append(next((name for name in one if one[name] != other.get(name)), ""))
        return differing or None

    def stored_bytes(self, seen: Any) -> int:
        return sum(len(json.dumps(data, indent=1)) for data in seen)


def _leaves_first(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for child in tree.get("children") or []:
        yield from _leaves_first(child)
    # The root's name is its class's, and the candidate's class is another: only what is inside is compared.
    yield "".join(tree["module_path"].partition(".")[1:]), json.dumps(tree.get("outputs"))


def _without_addresses(seen: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(path, re.sub(r"0x[0-9a-f]+", "", outputs)) for path, outputs in seen]


METHODS: list[Method] = [
    Fingerprints(),
    Logits("torch.equal of logits", not_equal),
    Logits("torch.testing.assert_close of logits", not_close),
    Tokens("greedy tokens, 8 a prompt", not_equal),
    DebugModeHashes(),
    AdditionDebugger(),
]
if importlib.util.find_spec("msprobe") is not None:  # pip install mindstudio-probe; the last, since it patches torch
    METHODS.append(MsProbe())


def run(names: Sequence[str]) -> dict[str, Tally]:
    """Show every method every fault; return what each did."""
    checkpoint = str(cached_checkpoint("tiny").gemma)
    probes = [probe for probe in build_probes(read_config(checkpoint)) if not probe.decode_steps]
    subject = Subject(target=CANDIDATE_TARGET, checkpoint=checkpoint)
    tallies = {method.name: Tally() for method in METHODS}
    loaded = [CATALOGUE[name] for name in names]
    faults = [one for one in loaded if one.folder is None and one.group != "training"]  # the others are in no model
    if not torch.cuda.is_available():
        faults = [fault for fault in faults if not fault.needs_cuda]
    for method in METHODS:
        tally = tallies[method.name]
        with restored_globals():
            reference = Subject(target=REFERENCE_TARGET, checkpoint=checkpoint).load()
            expected = method.see(reference, probes)
        tally.stored_bytes = method.stored_bytes(expected)
        for fault in [None, *faults]:
            with restored_globals():
                places, seconds = _try(method, fault, subject, reference, expected, probes)
            if fault is None:
                tally.false_alarms += places is not None
                continue
            tally.seconds.append(seconds)
            tally.caught += places is not None
            tally.located += bool(places) and re.search(fault.location, places[0]) is not None
        print(f"{method.name}: done", file=sys.stderr, flush=True)
    return tallies


def _try(
    method: Method, fault: Any, subject: Subject, reference: Any, expected: Any, probes: Sequence[Probe]
) -> tuple[Places, float]:
    with fault.around() if fault is not None else contextlib.nullcontext():
        candidate = fault.load_spoilt(subject) if fault is not None else subject.load()
        started = time.perf_counter()
        try:
            actual = method.see(candidate, probes)
        except Exception as error:  # it stops on the fault: that is caught too, and nothing is located
            return [f"({type(error).__name__})"], time.perf_counter() - started
        places = method.compare(expected, actual, (reference, candidate), probes)
        return places, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fault", action="append", choices=sorted(CATALOGUE), metavar="NAME", help="only this one; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="also write what was measured here")
    options = parser.parse_args()
    tallies = run(options.fault or list(CATALOGUE))
    print("| method | caught | located | false alarms | median seconds a candidate | bytes stored |")
    print("|---|---|---|---|---|---|")
    for name, tally in tallies.items():
        num = len(tally.seconds)
        median = sorted(tally.seconds)[num // 2]
        row = (name, f"{tally.caught} of {num}", tally.located, tally.false_alarms, f"{median:.2f}")
        print("| " + " | ".join(map(str, row)) + f" | {tally.stored_bytes:,} |")
    if options.json is not None:
        options.json.write_text(compact_json({name: asdict(tally) for name, tally in tallies.items()}))


if __name__ == "__main__":
    main()
