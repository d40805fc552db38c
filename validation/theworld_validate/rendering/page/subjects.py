"""The subjects side by side: what they share said once, what differs marked; and what each printed.

In: a report. Out: what the template lays out, as text of bounded length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from theworld_validate.rendering.plain_text import cut_block, line
from theworld_validate.rendering.summary import SHORT_DIGEST, describe_printed, subject_fields
from theworld_validate.results import Environment, Report, SubjectRecord

_MAX_PRINTED = 40_000  # characters of one subject
_MAX_SUBJECTS = 12
_MAX_GLANCE_SUBJECTS = 4
_LIBRARIES = ("torch", "transformers", "diffusers", "accelerate")
_MAX_GLANCE_VALUE = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """Who was compared, for the first look.

    Args:
        subjects: each one's role, and what of it no other shares; nothing where that is all.
        shared: what all have in common, in the same order as the fields of a subject.
        whose: whom `shared` is about: by name where nothing else names them.
        libraries: the versions of what they ran on, and the GPU.
    """

    subjects: list[tuple[str, list[tuple[str, str]]]]
    num_left_out: int
    shared: list[tuple[str, str]]
    whose: str
    libraries: str


def glance_of(report: Report) -> Glance:
    """The subjects in a few lines."""
    fields = [_short_fields(subject) for subject in report.subjects]
    shared = [pair for pair in fields[0] if all(pair in other for other in fields)] if len(fields) > 1 else []
    told: dict[tuple[str, ...], tuple[str, list[tuple[str, str]]]] = {}
    for subject, own in zip(report.subjects, fields, strict=True):
        rest = [pair for pair in own if pair not in shared]
        told.setdefault((subject.role, *map(str, rest)), (line(subject.role), rest))
    roles = [role for role, rest in told.values()]
    is_named = all(rest for _, rest in told.values())
    return Glance(
        subjects=list(told.values())[:_MAX_GLANCE_SUBJECTS],
        num_left_out=max(len(told) - _MAX_GLANCE_SUBJECTS, 0),
        shared=shared,
        whose=("both" if len(roles) == 2 else "all") if is_named else _listed(roles),
        libraries=_libraries(report.environment),
    )


def _listed(roles: Sequence[str]) -> str:
    """Roles in words: a subject that differs from no other has no row of its own."""
    shown = [*roles[:_MAX_GLANCE_SUBJECTS], *(["others"] if len(roles) > _MAX_GLANCE_SUBJECTS else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _short_fields(subject: SubjectRecord) -> list[tuple[str, str]]:
    digest = subject.checkpoint_digest
    short = replace(subject, checkpoint_digest=digest and digest[:SHORT_DIGEST])
    return [(name, line(value, _MAX_GLANCE_VALUE)) for name, value in subject_fields(short)]


def _libraries(environment: Environment | None) -> str:
    if environment is None:
        return ""
    versions = [f"{name} {version}" for name in _LIBRARIES if (version := environment.packages.get(name))]
    python = f"Python {environment.python}"
    gpu = [] if environment.gpu is None else [f"{environment.gpu_count} x {environment.gpu}"]
    return line(", ".join([*versions, python, *gpu]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """How the subjects were loaded: a row a field, a column a subject; and what each printed.

    Args:
        is_told: whether the head of the page says all of it already.
    """

    roles: list[str]
    rows: list[tuple[str, list[str], bool]]  # the field, its values, whether they differ
    printed: list[tuple[str, str, str]]  # the role, how much, the text
    num_left_out: int
    is_told: bool


def subjects_of(report: Report) -> Subjects:
    """The subjects side by side."""
    shown = report.subjects[:_MAX_SUBJECTS]
    fields = [dict(subject_fields(subject)) for subject in shown]
    names = list(dict.fromkeys(name for one in fields for name in one))
    rows = []
    for name in names:
        values = [one.get(name, "") for one in fields]
        rows.append((name, values, len(set(values)) > 1))
    return Subjects(
        roles=[line(subject.role) for subject in shown],
        rows=rows,
        printed=_printed(shown),
        num_left_out=len(report.subjects) - len(shown),
        is_told=len(shown) == 1 and not shown[0].checkpoint_digest and not shown[0].printed,
    )


def _printed(subjects: Sequence[SubjectRecord]) -> list[tuple[str, str, str]]:
    printed = []
    for subject in subjects:
        if subject.printed:
            text, is_cut = cut_block(subject.printed, _MAX_PRINTED)
            printed.append((line(subject.role), describe_printed(subject, _MAX_PRINTED if is_cut else None), text))
    return printed
