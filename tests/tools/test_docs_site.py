"""The site's pages that are made from the code, its links, and that nothing is loaded from the net."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import theworld
import theworld_validate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site() -> Any:
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "tools" / "docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(site: Any) -> dict[str, str]:
    return site.reference_pages()


def test_every_command_and_option_is_in_the_reference(pages: dict[str, str]) -> None:
    commands = pages["reference/commands.md"]
    for wanted in ("## `theworld-validate parity`", "### `theworld-validate memory predict`", "* `--accept <"):
        assert wanted in commands
    assert "* `--dry-run`" in pages["reference/training-command.md"]


def test_every_key_of_the_report_is_in_the_reference(pages: dict[str, str]) -> None:
    page = pages["reference/report-schema.md"]
    for wanted in ("| `verdict` |", "## CheckResult", "| `explained_by` |", "`passed`, `failed`, `skipped`"):
        assert wanted in page
    assert "| `command_line` | string or null | no | as it was typed. |" in page
    assert "| `actual` | plain value | no | the two values; None where there is none. |" in page
    headings = {heading.lower() for heading in re.findall(r"^## (.*)$", page, re.MULTILINE)}
    assert set(re.findall(r"\(#([a-z]+)\)", page)) <= headings


def test_every_public_name_is_in_the_reference(pages: dict[str, str]) -> None:
    shown = re.findall(r"^::: (.*)$", pages["reference/python.md"], re.MULTILINE)
    assert set(shown) == {f"theworld.{name}" for name in theworld.__all__ if name != "__version__"} | {
        f"theworld_validate.{name}" for name in theworld_validate.__all__
    }


def entries(navigation: Any) -> list[str]:
    if isinstance(navigation, str):
        return [navigation]
    inner = navigation.values() if isinstance(navigation, dict) else navigation
    return [path for item in inner for path in entries(item)]


def test_every_page_stands_in_the_navigation_once(pages: dict[str, str]) -> None:
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    listed = entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(written | set(pages))


def test_links_that_leave_the_documents_lead_to_the_repository(site: Any) -> None:
    text = "[a](../reports/README.md) [b](memory.md#levers) [c](#here) [d](https://x.org) [e](ci/gitlab-ci.yml)"
    assert site.hosted_links(text, "faq.md") == (
        f"[a]({site.HOSTED}reports/README.md) [b](memory.md#levers) [c](#here) [d](https://x.org) "
        f"[e]({site.HOSTED}docs/ci/gitlab-ci.yml)"
    )
    assert site.hosted_links("[a](../memory.md) [b](../../x.py)", "tutorials/x.md") == (
        f"[a](../memory.md) [b]({site.HOSTED}x.py)"
    )


@pytest.mark.parametrize(
    ("html", "loaded"),
    [
        ('<a href="https://x.org/">x</a><link rel="canonical" href="https://x.org/">', []),
        ('<script src="assets/x.js"></script><link rel="stylesheet" href="assets/x.css">', []),
        ('<script defer src="https://unpkg.com/x"></script>', ["https://unpkg.com/x"]),
        ('<img alt="x" src=//x.org/x.png>', ["//x.org/x.png"]),
        ('<link href="https://fonts.x.org/css" rel="stylesheet">', ["https://fonts.x.org/css"]),
    ],
)
def test_a_page_that_loads_from_the_net_is_seen(site: Any, html: str, loaded: list[str]) -> None:
    assert site.loaded_from_the_net(html) == loaded
