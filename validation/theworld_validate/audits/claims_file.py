"""The claims of the first implementation notes, as a table that machines read: claims.toml beside this file.

In: nothing. Out: `Claim`s, and the documented counts among them.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from theworld_validate.audits.explanation import DocumentedCount

_PERCENT = "%"
# Of the documented and the measured figure of each measure; statements have none.
_UNITS = {
    "count": "parameters",
    "preset": "parameters",
    "cosmos_parameters": "parameters",
    "image_tokens": "tokens an image",
    "latent_channels": "channels",
    "hidden_size": "elements",
    "memory": "GB",
    "memory_added": "GB",
    "memory_of_part": "% of the weights' bytes",
    "activation_ratio": "times",
    "step_slowdown": _PERCENT,
    "memory_saved": _PERCENT,
    "rank_share": _PERCENT,
}
CLAIMS = Path(__file__).with_name("claims.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing that the notes say.

    Args:
        id: its group and its name: "counts.vision_tower".
        line: of the notes; several where they say it again.
        quotes: the notes' own words, a text a line of `line`.
        says: the statement, in short.
        measure: how it is measured: a function's name in `claims.py`.
        about: claims with one `about` speak of one quantity; None where nothing else does.
        low, high: the documented value or range; None for open ends and for statements.
        recorded: the verdict that this release publishes; another one here and now is a finding.
        arguments: what else the measure needs.
    """

    id: str
    line: tuple[int, ...]
    quotes: tuple[str, ...]
    says: str
    measure: str
    about: str | None
    low: float | None
    high: float | None
    recorded: str
    arguments: dict[str, Any]

    @property
    def quote(self) -> str:
        """Every sentence of the notes that says it, with its line."""
        return "; ".join(f'line {line}: "{text}"' for line, text in zip(self.line, self.quotes, strict=True))

    @property
    def unit(self) -> str | None:
        """Of its figures; None for a statement."""
        return _PERCENT if self.arguments.get("field") == "percentage" else _UNITS.get(self.measure)

    @property
    def group(self) -> str:
        """Counts, presets, memory, speed, loading or precision."""
        return self.id.split(".")[0]


@cache
def read_claims() -> tuple[Claim, ...]:
    """Read the table, in the notes' order."""
    table = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))
    known = {"id", "line", "says", "measure", "about", "low", "high", "value", "recorded"}
    return tuple(
        Claim(
            id=entry["id"],
            line=tuple(entry["line"]),
            quotes=tuple(table["notes"][str(line)] for line in entry["line"]),
            says=entry["says"],
            measure=entry["measure"],
            about=entry.get("about"),
            low=entry.get("low", entry.get("value")),
            high=entry.get("high", entry.get("value")),
            recorded=entry["recorded"],
            arguments={key: value for key, value in entry.items() if key not in known},
        )
        for entry in table["claim"]
    )


def read_documented_counts() -> tuple[DocumentedCount, ...]:
    """The exact counts among the claims."""
    return tuple(as_documented_count(claim) for claim in read_claims() if claim.measure == "count")


def as_documented_count(claim: Claim) -> DocumentedCount:
    """An exact count's claim as the ledger's explanation takes it."""
    assert claim.low is not None
    parts = tuple(claim.arguments["parts"])
    return DocumentedCount(label=claim.says, parts=parts, count=int(claim.low), line=claim.line[0])
