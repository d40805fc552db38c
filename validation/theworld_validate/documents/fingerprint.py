"""Fingerprints as files: one JSON object, written whole and read strictly.

In: what was observed, of which model and where. Out: a file that another process, machine or release compares.
Digests, and sketches where they were asked for, are all that is kept of tensors, so the file needs nothing beside it.
"""

import re
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.documents.choices import Choice, why_no_choice
from theworld_validate.documents.compact_json import compact_json
from theworld_validate.documents.observations import (
    ALGORITHM,
    PROBE_SECTIONS,
    SECTIONS,
    Failure,
    Fingerprint,
    Section,
    count_observations,
)
from theworld_validate.documents.reading import document_at, parse, read_json_object
from theworld_validate.documents.sketches import ALGORITHM as SKETCH_ALGORITHM
from theworld_validate.documents.sketches import Sketch, why_no_sketch
from theworld_validate.documents.writing import write_file
from theworld_validate.results import Environment, InputError, Plan, SubjectRecord

SCHEMA = "theworld-fingerprint/5"
# Those before observe less: fewer calls, global flags and replaced functions, no losses in training, no gradients of a
# text alone.
_OBSERVE_LESS = ("theworld-fingerprint/2", "theworld-fingerprint/3", "theworld-fingerprint/4")
_READ = (*_OBSERVE_LESS, SCHEMA)  # the first had no sketches
FILE_NAME = "fingerprint.json"  # inside a folder
MAX_FINGERPRINT_BYTES = 64 * 2**20
MAX_FINGERPRINT_VALUES = 800_000  # that of Gemma 3 27B has some 200,000
_DIGEST = re.compile(r"[0-9a-f]{32}")
_AGAIN = "make it again with theworld-validate fingerprint"


@dataclass(frozen=True, slots=True, kw_only=True)
class FingerprintFile:
    """A fingerprint, and what a comparison must know of it.

    Args:
        schema: of this file.
        digest: the algorithm of its digests.
        subject: which model, and how it was loaded.
        environment: versions and devices; two environments may differ where no model does.
        plan: what was to be observed.
        num_observations: how many were, section by section.
        sketch: the algorithm of its sketches.
        sketches: digest -> sketch of the tensor that has it; empty where none were asked for.
        choices: location of a generated token's logits -> what each row of the batch chose by them; with sketches.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    schema: str = SCHEMA
    digest: str = ALGORITHM
    subject: SubjectRecord
    environment: Environment
    plan: Plan
    num_observations: dict[str, int]
    sections: dict[str, Section]
    num_bytes: dict[str, int]
    failures: tuple[Failure, ...] = ()
    sketch: str = SKETCH_ALGORITHM
    sketches: dict[str, Sketch] = field(default_factory=dict)
    choices: dict[str, tuple[Choice, ...]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> Fingerprint:
        """What was observed."""
        return Fingerprint(
            sections=self.sections,
            num_bytes=self.num_bytes,
            failures=self.failures,
            sketches=self.sketches,
            choices=self.choices,
        )


def make_file(
    fingerprint: Fingerprint, *, subject: SubjectRecord, environment: Environment, plan: Plan
) -> FingerprintFile:
    """Put a fingerprint and what it is of together."""
    return FingerprintFile(
        subject=subject,
        environment=environment,
        plan=plan,
        num_observations=count_observations(fingerprint),
        sections=fingerprint.sections,
        num_bytes=fingerprint.num_bytes,
        failures=fingerprint.failures,
        sketches=fingerprint.sketches,
        choices=fingerprint.choices,
    )


def why_not_compared(*files: FingerprintFile) -> str | None:
    """Why fingerprints cannot be compared: some observe less than the others; None where all observe the same."""
    if len({file.schema for file in files}) <= 1:
        return None
    oldest = min(files, key=lambda file: _READ.index(file.schema))
    made = f"{oldest.subject.target} was made by an earlier version ({oldest.schema})"
    return f"the fingerprint of {made}, which observes less than {SCHEMA}; {_AGAIN}"


def place_of(path: Path) -> Path:
    """The file that `path` means: itself, or `fingerprint.json` in it if it is a folder or has no suffix."""
    try:
        return path if path.suffix and not path.is_dir() else path / FILE_NAME
    except OSError:  # one that no file can have is named when it is written
        return path


def truth_beside(place: Path) -> Path:
    """Where the truth of a fingerprint is written: NAME.truth.json for NAME.json."""
    return place.with_name(f"{place.stem}.truth{place.suffix}")


def find_truth(path: Path) -> Path | None:
    """The truth beside a fingerprint, or in the folder of one; None where there is none."""
    place = truth_beside(document_at(path, FILE_NAME))
    try:
        return place if place.is_file() else None
    except OSError:
        return None


def write_fingerprint(file: FingerprintFile, path: Path) -> Path:
    """Write to `place_of(path)`; whole or not at all.

    Raises:
        InputError: if it cannot be written there.
    """
    target = place_of(path)
    write_file(target, compact_json(asdict(file)), option="--output")
    return target


def read_fingerprint(path: Path) -> FingerprintFile:
    """Read a fingerprint file, or the one in a folder.

    Raises:
        InputError: if it is not there, not whole, of another schema or digest, or a field is wrong.
    """
    from theworld.checkpoints.error_text import one_line

    file = document_at(path, FILE_NAME)
    values = read_json_object(file, max_bytes=MAX_FINGERPRINT_BYTES, max_values=MAX_FINGERPRINT_VALUES)
    return parse_fingerprint(values, source=one_line(file))


def parse_fingerprint(values: dict[str, Any], *, source: str) -> FingerprintFile:
    """Check the values of a fingerprint's JSON; `source` is the file, for errors.

    Raises:
        InputError: as `read_fingerprint`.
    """
    expected = {"schema": _READ, "digest": (ALGORITHM,), "sketch": (SKETCH_ALGORITHM,)}
    for name, known in expected.items():
        if values.get(name, SKETCH_ALGORITHM if name == "sketch" else None) not in known:
            found = str(values.get(name))[:60]
            raise InputError(f"{source}: field {name} is {found!r}, expected {known[-1]!r}; {_AGAIN}")
    file = parse(_adapter(), values, source=source)
    _check(file, source)
    return file


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(FingerprintFile)


def _check(file: FingerprintFile, source: str) -> None:
    """What types do not say: known sections, whole sections, digests that are digests, locations of known probes."""
    from theworld.checkpoints.error_text import shown_name

    for where, names in (("sections", file.sections), ("plan.sections", file.plan.sections)):
        if unknown := [name for name in names if name not in SECTIONS]:
            raise InputError(f"{source}: field {where} names {unknown[0][:60]!r}, which is no section; {_AGAIN}")
    for name, section in file.sections.items():
        if len(section) != file.num_observations.get(name):
            were = file.num_observations.get(name)
            raise InputError(f"{source}: section {name} holds {len(section)} observations of {were}; {_AGAIN}")
        for location, seen in section.items():
            problem = None
            if "digest" in seen and not (isinstance(seen["digest"], str) and _DIGEST.fullmatch(seen["digest"])):
                problem = "field digest is no digest"
            elif not seen:
                problem = "nothing was observed"
            elif name in PROBE_SECTIONS and "/" not in location:
                problem = "names no probe"
            if problem is not None:
                raise InputError(f"{source}: section {name}, {shown_name(location)}: {problem}; {_AGAIN}")
    _check_numbers(file, source)
    if any(size < 0 for size in file.num_bytes.values()):
        raise InputError(f"{source}: field num_bytes has a size below 0; {_AGAIN}")


def _check_numbers(file: FingerprintFile, source: str) -> None:
    """What the referee judges by: sketches and choices that can be."""
    from theworld.checkpoints.error_text import shown_name

    for digest, sketch in file.sketches.items():
        problem = why_no_sketch(sketch) if _DIGEST.fullmatch(digest) else "its name is no digest"
        if problem is not None:
            raise InputError(f"{source}: sketch {shown_name(digest)}: {problem}; {_AGAIN}")
    for location, rows in file.choices.items():
        known = location in file.sections.get("generation", {})
        problems = [why_no_choice(row) for row in rows] if known else ["there are no logits of that name"]
        if (problem := next(filter(None, problems), None)) is not None:
            raise InputError(f"{source}: choice {shown_name(location)}: {problem}; {_AGAIN}")
