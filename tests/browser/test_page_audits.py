"""What Lighthouse asks of a page, asked of ours as Chromium draws it: contrast, names, headings, targets, keyboard.

Each of the audits is also held against a page with a fault that it must find.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.browser.screens import DESKTOP, PHONE, show, write_page
from tests.theworld_validate.rendering.sample_pages import (
    REPORTS,
    failing_report,
    memory_report,
    passing_report,
    releases_report,
)
from theworld_validate.rendering.page import render_html

pytestmark = pytest.mark.browser

AUDITS = Path(__file__).with_name("page_audits.js").read_text(encoding="utf-8")
SCREENS = {"phone": PHONE, "desktop": DESKTOP}
# Roles that mean nothing to who cannot see them without a name.
NAMED = {"link", "button", "searchbox", "image", "img", "region", "navigation", "DisclosureTriangle", "heading"}
NAMED |= {"columnheader", "rowheader"}


def audit(browser: Any, page: str, screen: dict[str, Any], scheme: str = "light") -> dict[str, list[str]]:
    """Every audit's problems; those that have none are left out."""
    show(browser, page, screen, scheme=scheme)
    result = browser.execute_script(AUDITS)
    assert result["texts"] > 30  # whose contrast was measured
    problems = {**result["problems"], "names": nameless(browser)}
    return {name: found for name, found in problems.items() if found}


def nameless(browser: Any) -> list[str]:
    """Roles without a name in the tree that the browser gives to a screen reader."""
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip())
        for node in nodes
        if not node["ignored"] and "role" in node
    ]
    assert sum(role in NAMED for role, _ in roles) > 5
    return [role for role, name in roles if role in NAMED and not name]


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_without_a_problem(browser: Any, kind: str, screen: str, scheme: str, tmp_path: Path) -> None:
    assert audit(browser, write_page(REPORTS[kind](), tmp_path), SCREENS[screen], scheme) == {}


FAULTS = {
    "a pale ink": ("contrast", "--dim: #57606a", "--dim: #b0b8c0"),
    "an ink too near a filled cell": ("contrast", "--share: #ffc9a3", "--share: #803000"),
    "a heading that skips a level": ("headings", "<h3>", "<h5>"),
    "a second title": ("headings", "<h2>", "<h1>"),
    "no language": ("document", ' lang="en"', ""),
    "no main part": ("document", "main>", "div>"),
    "an id that is there twice": ("document", 'id="checks"', 'id="environment"'),
    "a link without words": ("names", 'aria-label="Link to this finding">#', ">"),
    "a label of nothing": ("labels", "<dt>command</dt><dd>", "<dt>candidate</dt><dd></dd><dt>command</dt><dd>"),
    "a header without a name": ("labels", '<th scope="col">status</th>', '<th scope="col"></th>'),
    "a picture without words": ("names", 'role="img" aria-label="', 'role="img" title="" data-title="'),
    "small targets": (
        "targets",
        "</style>",
        "summary { min-height: 0 !important; height: 12px; padding: 0 !important; }</style>",
    ),
    "a focus that is not seen": ("focus", "</style>", "*:focus-visible { outline: none !important; }</style>"),
    "folded parts that no key opens": ("focus", "<summary>", '<summary tabindex="-1">'),
    "a table that no key scrolls": ("reach", 'tabindex="0" role="region"', 'role="region"'),
    "a page that is too wide": ("width", "</style>", "h1 { width: 600px; }</style>"),
    "words that are cut": ("cuts", "</style>", "h1 { width: 9rem; overflow: hidden; white-space: nowrap; }</style>"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_audit_finds_its_fault(browser: Any, fault: str, tmp_path: Path) -> None:
    name, sound, planted = FAULTS[fault]
    html = render_html(failing_report())
    html = html.replace("</style>", ".scroll table { min-width: 30rem; }</style>")  # something to scroll
    assert sound in html
    problems = audit(browser, write_page(html.replace(sound, planted), tmp_path), PHONE)
    assert name in problems, problems


@pytest.mark.parametrize(
    ("screen", "sound", "planted"),
    [
        ("desktop", '<th scope="colgroup" colspan="2">read by</th>', ""),
        ("phone", 'data-title="read by ', 'data-title="'),
        ("phone", '<span class="phone dim">saved by </span>', ""),
    ],
)
def test_a_grid_that_does_not_say_which_way_it_is_read_is_found(
    browser: Any, screen: str, sound: str, planted: str, tmp_path: Path
) -> None:
    html = render_html(releases_report())
    assert sound in html
    assert set(audit(browser, write_page(html.replace(sound, planted), tmp_path), SCREENS[screen])) == {"labels"}


def test_a_header_without_a_name_is_one_for_a_screen_reader_too(browser: Any, tmp_path: Path) -> None:
    html = render_html(passing_report()).replace('<th scope="col">status</th>', '<th scope="col"></th>')
    assert {"labels", "names"} <= set(audit(browser, write_page(html, tmp_path), DESKTOP))


def test_ticks_that_lie_on_each_other_are_found(browser: Any, tmp_path: Path) -> None:
    html = render_html(memory_report()).replace("</style>", ".axis { font-size: 3rem !important; }</style>")
    assert "overlaps" in audit(browser, write_page(html, tmp_path), PHONE)


def test_a_pale_ink_in_the_dark_is_found(browser: Any, tmp_path: Path) -> None:
    html = render_html(passing_report()).replace("--dim: #9ba3ac", "--dim: #4a4f55")
    page = write_page(html, tmp_path)
    assert set(audit(browser, page, DESKTOP, "dark")) == {"contrast"}
    assert audit(browser, page, DESKTOP, "light") == {}


def test_the_keyboard_opens_what_is_folded(browser: Any, tmp_path: Path) -> None:
    show(browser, write_page(memory_report(), tmp_path), PHONE, scripts=False)
    folded = browser.find_elements("css selector", "#memory > details:not([open])")[0]
    bars = folded.find_element("css selector", ".bars")
    assert not bars.is_displayed()
    active = browser.switch_to.active_element
    for _ in range(40):
        active.send_keys("\ue004")  # Tab
        active = browser.switch_to.active_element
        if active == folded.find_element("tag name", "summary"):
            break
    active.send_keys("\ue007")  # Enter
    assert bars.is_displayed()


def test_a_row_of_a_table_is_a_stack_on_a_phone(browser: Any, tmp_path: Path) -> None:
    page = write_page(passing_report(), tmp_path)
    cells = "#checks tbody tr:first-child td"
    for screen, is_stack in ((PHONE, True), (DESKTOP, False)):
        show(browser, page, screen)
        tops = [cell.location["y"] for cell in browser.find_elements("css selector", cells)]
        assert (len(set(tops)) == len(tops) == 4) is is_stack
        assert (len(set(tops)) == 1) is not is_stack
