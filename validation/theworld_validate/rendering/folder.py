"""The report folder: report.json, the source of truth, and the forms rendered from it."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from theworld_validate.rendering.figures import draw_figures
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.page import render_html
from theworld_validate.results import TENSORS_FILE, InputError


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
    """Write every form, or none: a killed run leaves the previous report whole.

    When it is written, the figures and the tensors of an earlier one go.
    """
    figures = draw_figures(report)
    write_files(
        folder,
        {
            **figures,
            "report.md": render_markdown(report),
            "report.html": render_html(report),
            "junit.xml": render_junit(report),
            "report.json": json.dumps(report, indent=2, allow_nan=False) + "\n",
        },
    )
    named = {check["measurements"].get("divergence_tensors_file") for check in report["checks"]}
    if TENSORS_FILE not in named:
        (folder / TENSORS_FILE).unlink(missing_ok=True)
    for old in {path.name for path in folder.glob("*.*.svg")} - figures.keys():
        (folder / old).unlink()


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write files whole: all of them beside their places first, and then each into its own."""
    written: dict[str, Path] = {}
    try:
        for name, text in files.items():
            descriptor, scratch = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
            written[name] = Path(scratch)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            written[name].chmod(0o644)
        for name, scratch in written.items():
            os.replace(scratch, folder / name)
    finally:
        for scratch in written.values():
            scratch.unlink(missing_ok=True)
