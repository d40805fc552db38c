"""Fingerprints as files: one JSON object, read and written whole.

In: a fingerprint, what it is of and where it was made. Out: a file that another process, machine or release
compares. Digests are all that is kept of tensors, so the file needs nothing beside it.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from theworld_validate.documents.observations import ALGORITHM, LAYERS, Fingerprint
from theworld_validate.results import InputError

SCHEMA = "theworld-fingerprint/1"
FILE_NAME = "fingerprint.json"  # inside a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class FingerprintFile:
    """A fingerprint, and what a comparison must know of it.

    Args:
        subject: target, checkpoint, dtype, device, attention and seed.
        environment: versions and devices; two environments may differ where no model does.
    """

    fingerprint: Fingerprint
    subject: dict[str, Any]
    environment: dict[str, Any]


def write_fingerprint(file: FingerprintFile, path: Path) -> Path:
    """Write to `path`, or to `fingerprint.json` in it if it is a folder or has no suffix; whole or not at all."""
    target = path if path.suffix else path / FILE_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "schema": SCHEMA,
        "digest": ALGORITHM,
        "subject": file.subject,
        "environment": file.environment,
        **asdict(file.fingerprint),
    }
    descriptor, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(values, opened, indent=1)
        Path(scratch).chmod(0o644)
        os.replace(scratch, target)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return target


def read_fingerprint(path: Path) -> FingerprintFile:
    """Read a fingerprint file, or the one in a folder.

    Raises:
        InputError: if it is not there, not whole, or of another schema or digest.
    """
    source = path / FILE_NAME if path.is_dir() else path
    try:
        values = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such file; make one with theworld-validate fingerprint --output") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: not readable as JSON ({error}); make it again") from error
    for field, expected in (("schema", SCHEMA), ("digest", ALGORITHM)):
        found = values.get(field) if isinstance(values, dict) else None
        if found != expected:
            raise InputError(f"{source}: field {field} is {found!r}, expected {expected!r}; make it with this release")
    layers = values.get("layers")
    if not isinstance(layers, dict) or not set(layers) <= set(LAYERS) or not layers:
        raise InputError(f"{source}: field layers is missing or unknown; make the fingerprint again")
    return FingerprintFile(
        fingerprint=Fingerprint(layers=layers, num_bytes=values.get("num_bytes", {})),
        subject=values.get("subject", {}),
        environment=values.get("environment", {}),
    )
