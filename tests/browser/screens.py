"""Pages in the browser: written to a file, shown on a phone or a desktop, in light or dark, with or without scripts."""

from pathlib import Path
from typing import Any

from theworld_validate.rendering.page import render_html
from theworld_validate.results import Report

PHONE = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": True}
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}


def write_page(report: Report | str, folder: Path) -> str:
    """Write a report's page, or one that was changed, and return its address."""
    path = folder / "report.html"
    path.write_text(report if isinstance(report, str) else render_html(report), encoding="utf-8")
    return path.as_uri()


def show(browser: Any, page: str, screen: dict[str, Any], *, scripts: bool = True, scheme: str = "light") -> None:
    """Show a page."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    browser.get(page)
