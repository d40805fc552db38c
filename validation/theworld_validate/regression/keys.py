"""What makes two reports comparable: the environment's key, and the subjects.

In: the environments and subjects of two reports. Out: the name of a baseline's folder, and the differences in words.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from theworld_validate.results import Environment, Scalar, SubjectRecord

# In the order in which a difference is likely to explain another.
KEY = ("torch", "transformers", "diffusers", "gpu", "cuda", "machine", "processor", "python")
_SUBJECT = ("target", "checkpoint_digest", "dtype", "device", "attn", "seed")
_NOT_EXPLAINING = ("calibration_seconds", "platform")
_MAX_PART = 40  # characters of one part of a folder's name

Difference = tuple[str, Scalar, Scalar]  # a field, the baseline's value, the current one


def environment_key(environment: Environment) -> dict[str, str | None]:
    """What a baseline is keyed by; Python's patch release does not count."""
    facts = _facts(environment)
    key = {name: None if facts.get(name) is None else str(facts[name]) for name in KEY}
    return {**key, "python": ".".join(environment.python.split(".")[:2])}


def key_name(environment: Environment) -> str:
    """The folder of an environment's baseline: what a person recognises, and a digest of the whole key.

    It is one part of a path, whatever the environment says: letters, digits, dots, pluses and dashes.
    """
    key = environment_key(environment)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    parts = (key["gpu"] or "cpu", f"torch{key['torch']}", f"transformers{key['transformers']}")
    return "-".join([*map(_slug, parts), digest])


def _slug(text: str) -> str:
    shown = re.sub(r"[^a-z0-9.+]+", "-", text.lower())
    return re.sub(r"\.{2,}", ".", shown)[:_MAX_PART].strip("-.+") or "unknown"


def _facts(environment: Environment) -> dict[str, Scalar]:
    own = {name: value for name, value in asdict(environment).items() if not isinstance(value, dict)}
    return {**own, **environment.packages}


def differing_keys(before: Environment, after: Environment) -> list[Difference]:
    """Where the keys of two environments differ."""
    was, now = environment_key(before), environment_key(after)
    return [(name, was[name], now[name]) for name in KEY if was[name] != now[name]]


def differing_facts(before: Environment, after: Environment) -> list[Difference]:
    """Where two environments differ at all, what is likeliest to explain a change first."""
    was, now = _facts(before), _facts(after)
    others = [name for name in sorted({*was, *now}) if name not in (*KEY, *_NOT_EXPLAINING)]
    return [(name, was.get(name), now.get(name)) for name in (*KEY, *others) if was.get(name) != now.get(name)]


def differing_subjects(before: Sequence[SubjectRecord], after: Sequence[SubjectRecord]) -> list[Difference]:
    """Where what two reports are about differs; a checkpoint's place counts only where no digest names its content."""
    was, now = _by_role(before), _by_role(after)
    differences: list[Difference] = []
    for role in (*was, *(role for role in now if role not in was)):
        one, other = was.get(role), now.get(role)
        if one is None or other is None:
            differences.append((role, None if one is None else one.target, None if other is None else other.target))
            continue
        differences += [
            (f"{role}'s {name.replace('_', ' ')}", getattr(one, name), getattr(other, name))
            for name in differing_fields(one, other)
        ]
    return differences


def differing_fields(one: SubjectRecord, other: SubjectRecord) -> list[str]:
    """In which fields two subjects are not the same; a checkpoint's place counts only where no digest is known."""
    both_unread = one.checkpoint_digest is None and other.checkpoint_digest is None
    fields = (*_SUBJECT, "checkpoint") if both_unread else _SUBJECT
    return [name for name in fields if getattr(one, name) != getattr(other, name)]


def _by_role(subjects: Sequence[SubjectRecord]) -> dict[str, SubjectRecord]:
    seen: Counter[str] = Counter()
    named = {}
    for subject in subjects:
        seen[subject.role] += 1
        number = seen[subject.role]
        named[subject.role if number == 1 else f"{subject.role} {number}"] = subject
    return named


def in_words(differences: Sequence[Difference]) -> str:
    """Differences as the end of a line."""
    from theworld.checkpoints.error_text import one_line

    return "; ".join(one_line(f"{name} was {was}, is {now}", 200) for name, was, now in differences)
