"""The report folder: report.json, the source of truth, and the forms rendered from it."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from validation.rendering.figures import draw_figures
from validation.rendering.markdown import render_markdown
from validation.results import InputError


def check_output_folder(folder: Path) -> None:
    """Refuse, before anything is run, a place where no report can be written.

    Raises:
        InputError: if `folder` is a file, or cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--output {folder}: cannot write there ({error.strerror}); name another folder") from error


def write_report_folder(report: dict[str, Any], folder: Path) -> None:
    """Write each file whole or not at all; a killed run leaves the previous report."""
    files = {
        "report.json": json.dumps(report, indent=2, allow_nan=False) + "\n",
        "report.md": render_markdown(report),
        **draw_figures(report),
    }
    for name, text in files.items():
        descriptor, scratch = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(scratch).chmod(0o644)
            os.replace(scratch, folder / name)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
