"""Every link of every document leads somewhere: to a file that is there, and to a heading that it has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOSTED = re.compile(
    r"https://(?:github\.com/theworld/theworld/(?:blob|tree)|raw\.githubusercontent\.com/theworld/theworld)/main/"
)
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(path for folder in ("docs", "examples") for path in sorted((ROOT / folder).rglob("*.md"))),
    *(path for path in (ROOT / "reports" / "README.md", *sorted((ROOT / "reports").glob("*/README.md")))),
)
_LINK = re.compile(r"""\]\(([^)\s]+)\)|\b(?:href|src|srcset)="([^"\s]+)\"|^\[[^]]+\]: (\S+)$""", re.MULTILINE)


def without_code(text: str) -> str:
    """A document less its code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^(?: {4}|\t).*$|`[^`\n]*`", "", text, flags=re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The headings' anchors, as the hosted repository and the site both make them."""
    headings = re.findall(
        r"^#+ (.*?)#*$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    plain = [
        re.sub(r"[^\w\s-]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).strip().lower() for heading in headings
    ]
    return {heading.replace(" ", "-") for heading in plain} & {re.sub(r"[-\s]+", "-", heading) for heading in plain}


def dead_links(document: Path, text: str) -> list[str]:
    """The links of a document, whose text it is, that lead nowhere in the repository; other hosts are not asked."""
    defined = set(re.findall(r"^\[([^]]+)\]: ", text, re.MULTILINE))
    found = [label for label in re.findall(r"\]\[([^]]+)\]", without_code(text)) if label not in defined]
    for match in _LINK.finditer(without_code(text)):
        link = match[1] or match[2] or match[3]
        path, _, anchor = link.partition("#")
        if (hosted := HOSTED.match(path)) is not None:
            target = ROOT / path[hosted.end() :]
        elif re.match(r"[a-z]+:", path):
            continue
        elif path:
            target = document.parent / path
        else:
            target, anchor = document, "" if anchor in anchors(text) else anchor
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    assert dead_links(document, document.read_text(encoding="utf-8")) == []


def test_dead_links_are_seen() -> None:
    page = ROOT / "docs" / "memory.md"
    text = """# The levers, *here*

[a](#the-levers-here) [b](faq.md) [c](https://github.com/theworld/theworld/blob/main/docs/faq.md) [d](https://x.org/none)
`[e](none.md)` [f](none.md) [g](faq.md#none) [h](#levers) [i](https://github.com/theworld/theworld/blob/main/none.md)
<img src="https://raw.githubusercontent.com/theworld/theworld/main/none.svg"> [j][nothing] [k][faq]

[faq]: none.html
"""
    assert dead_links(page, text) == [
        "nothing",
        "none.md",
        "faq.md#none",
        "#levers",
        "https://github.com/theworld/theworld/blob/main/none.md",
        "https://raw.githubusercontent.com/theworld/theworld/main/none.svg",
        "none.html",
    ]


def test_the_readme_can_be_read_on_the_package_index() -> None:
    text = without_code((ROOT / "README.md").read_text(encoding="utf-8"))
    links = [match[1] or match[2] or match[3] for match in _LINK.finditer(text)]
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
