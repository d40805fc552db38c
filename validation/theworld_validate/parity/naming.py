"""Check ids for probes: a probe may have any name, an id is made of letters, digits and dashes."""

import re

_MAX_LENGTH = 60


def probe_check_id(probe: str, taken: set[str]) -> str:
    """A check id for a probe that no other has; `taken` learns it."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", probe)[:_MAX_LENGTH].strip("-") or "probe"
    name, number = f"parity.probe.{slug}", 2
    while name in taken:
        name, number = f"parity.probe.{slug}-{number}", number + 1
    taken.add(name)
    return name
