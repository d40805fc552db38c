"""Names that are made of a check's id: anchors of the page, files of the folder.

In: an id or a finding. Out: letters, digits, dots and dashes, of bounded length, with no part of a path; ids that
differ give names that differ.
"""

import hashlib
import re

from theworld_validate.results import Finding

_MAX_STEM = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def stem_of(check_id: str) -> str:
    """An id that is plain, as it is; any other one reduced, with a digest that keeps it apart."""
    parts = [part for piece in check_id.split(".") if (part := _UNSAFE.sub("-", piece))]
    stem = ".".join(parts)[:_MAX_STEM].strip(".")
    return stem if stem == check_id else f"{stem or 'check'}-{_digest(check_id)}"


def anchor_of(check_id: str) -> str:
    """A check's anchor."""
    return f"check-{stem_of(check_id)}"


def finding_anchor(check_id: str, finding: Finding) -> str:
    """A finding's anchor: the same in every report that has this finding."""
    return f"finding-{_digest(check_id, finding.code, finding.location)}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:10]
