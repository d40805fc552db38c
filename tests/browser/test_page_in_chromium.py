"""The report's page in a real browser, Debian's chromium with its driver: on a phone, in the dark, without scripts."""

from pathlib import Path
from typing import Any

import pytest

from tests.browser.screens import DESKTOP, PHONE, show, write_page
from tests.theworld_validate.rendering.sample_pages import failing_report
from tests.theworld_validate.rendering.sample_reports import CAUSE, make_report, parity_report, sample_checks
from tests.theworld_validate.rendering.test_hostile_text import HOSTILE, hostile_report
from theworld_validate.rendering.page import render_html

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(make_report(sample_checks()), tmp_path_factory.mktemp("page"))


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_overflows_and_nothing_complains(
    browser: Any, page: str, screen: dict[str, Any], tmp_path: Path
) -> None:
    show(browser, page, screen)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= screen["width"]
    assert browser.get_log("browser") == []
    assert browser.save_screenshot(str(tmp_path / "page.png"))


def test_sorting_and_filtering(browser: Any, page: str) -> None:
    show(browser, page, DESKTOP)
    rows = (
        "return [...document.querySelectorAll('#checks tbody tr:not([hidden]) td:first-child')].map(c => c.innerText)"
    )
    before = browser.execute_script(rows)
    button = browser.find_element("css selector", "#checks th:first-child button")
    button.send_keys("\ue007")  # the keyboard's Enter
    assert browser.execute_script(rows) == sorted(before)
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    button.click()
    assert browser.execute_script(rows) == sorted(before, reverse=True)
    browser.find_element("css selector", "#filter input").send_keys("inconclusive")
    assert browser.execute_script(rows) == ["parity.control"]


def test_without_scripts_everything_is_readable(browser: Any, page: str) -> None:
    show(browser, page, DESKTOP, scripts=False)
    text = browser.find_element("tag name", "body").text
    for shown in ("FAILED", "load with from_pretrained", "7 of 10", "memory.predict", "lm_head", "a processor"):
        assert shown in text
    assert not browser.find_element("id", "filter").is_displayed()  # it could do nothing


def test_dark_and_light_differ(browser: Any, page: str) -> None:
    colours = []
    for scheme in ("light", "dark"):
        show(browser, page, DESKTOP, scheme=scheme)
        colours.append(browser.find_element("tag name", "body").value_of_css_property("background-color"))
    assert colours[0] != colours[1]


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_failing_report_opens_with_its_cause(browser: Any, screen: dict[str, Any], tmp_path: Path) -> None:
    show(browser, write_page(parity_report(), tmp_path), screen)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= screen["width"]
    cause = browser.find_element("css selector", ".likeliest")
    assert CAUSE.cause in cause.text
    assert CAUSE.location in cause.text
    assert cause.location["y"] < 200
    card = browser.find_element("css selector", "#findings article")
    assert CAUSE.message in card.text
    followed = card.find_element("css selector", "li")
    assert not followed.is_displayed()
    summary = card.find_element("css selector", "summary")
    assert summary.text == "8 findings follow from it"
    summary.click()
    assert followed.is_displayed()
    assert "theworld:TheWorld" in browser.find_element("css selector", ".banner").text
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_last_layers_bar_stands_over_its_label(browser: Any, screen: dict[str, Any], tmp_path: Path) -> None:
    show(browser, write_page(failing_report(), tmp_path), screen)
    last = "[...document.querySelectorAll('.spread {}')].at(-1).getBoundingClientRect()"
    bar, label = (browser.execute_script(f"return {last.format(of)}") for of in (".box i", ".xlabels span"))
    assert abs(bar["right"] - label["right"]) < 2
    assert label["left"] >= bar["left"] - 20  # nor is it under the bar before


def test_an_id_has_its_column_where_there_is_room(browser: Any, tmp_path: Path) -> None:
    show(browser, write_page(failing_report(), tmp_path), DESKTOP)
    ids = browser.find_elements("css selector", "#checks td:first-child code")
    assert max(element.size["height"] for element in ids if len(element.text) > 28) < 24  # one line


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_runs(browser: Any, name: str, tmp_path: Path) -> None:
    show(browser, write_page(hostile_report(HOSTILE[name]), tmp_path), DESKTOP)
    assert browser.get_log("browser") == []  # an attempt that the page's policy stops would be told here
    assert browser.execute_script("return document.scripts.length") == 1
    assert browser.execute_script("return document.querySelectorAll('main > section').length") >= 5
    assert browser.execute_script("return document.querySelectorAll('#checks tbody tr').length") == 7
    assert browser.execute_script("return document.documentElement.scrollWidth") <= DESKTOP["width"]


def test_the_policy_lets_no_other_script_run(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    html = render_html(make_report(sample_checks()))
    path.write_text(html.replace("</main>", "</main><script>document.title = 'ran'</script>"), encoding="utf-8")
    show(browser, path.as_uri(), DESKTOP)
    assert browser.title == "failed: theworld-validate"
    assert browser.find_element("id", "filter").is_displayed()  # its own did
