"""What `benchmarks/referee.py` keeps of each variant and fault, and its file.

In: one row a variant, as it is judged. Out: JSON with raw figures, from which `benchmarks/error_rates.py` makes the
tables and the picture.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.documents.writing import write_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One benign variant or fault.

    Args:
        kind: "benign", "fault", or "environment": the plain checkpoint elsewhere, of which nobody knows beforehand.
        group: of a fault.
        differs: strict parity's findings in trace, outputs and generation: kinds of places that are not bit-equal.
        verdict: of the referee.
        exact: its findings of what must be equal bit for bit, "code@place".
        numbers: its findings of what a forward gives, "code@place=what".
        gradients: its findings of gradients.
        missing: evidence that was missing, the first lines.
        worst: probe, or "gradients" -> the greatest ratio and its place.
        logits_ratio: the greatest ratio of the probes' logits alone; None where they are equal, or have none.
        distances: of the logits, by `benchmarks/tolerances.py`.
        error: why nothing could be judged.
    """

    name: str
    kind: str
    group: str = ""
    differs: dict[str, int] = field(default_factory=dict)
    verdict: str = ""
    exact: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    gradients: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    logits_ratio: float | None = None
    distances: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None

    @property
    def is_visible(self) -> bool:
        """Whether the forward shows it: strict parity sees a difference in trace, outputs or generation."""
        return any(self.differs.values())

    @property
    def is_of_another_kind(self) -> bool:
        """Whether the forward differs in what has no rounding: a mask, a shape, tokens, or that it raises."""
        return any(".ratio@" not in finding for finding in self.numbers)

    @property
    def ratio(self) -> float:
        """The greatest ratio of a forward; 0 where all is equal."""
        return max((seen[0] for name, seen in self.worst.items() if name != "gradients"), default=0.0)

    @property
    def gradient_ratio(self) -> float:
        """The greatest ratio of a gradient; 0 where all are equal."""
        return self.worst.get("gradients", (0.0, ""))[0]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [Row(**{**row, "worst": {k: (v[0], v[1]) for k, v in row.get("worst", {}).items()}}) for row in rows]


def write_rows(path: Path, rows: list[Row], *, dtype: str, libraries: dict[str, str]) -> None:
    """Write a file, whole or not at all."""
    made = {"dtype": dtype, "libraries": libraries, "rows": [asdict(row) for row in rows]}
    write_file(path, compact_json(made), option="--json")
