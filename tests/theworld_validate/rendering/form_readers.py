"""Each form read as strictly as its readers read it: what it holds, and whether anything was injected."""

import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console

from theworld_validate.rendering.console import print_report
from theworld_validate.results import Report

_VOID = {"meta", "input", "br", "wbr", "link"}
_OUR_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "h2",
        "h3",
        "span",
        "p",
        "a",
        "nav",
        "ul",
        "li",
    ),
    *("main", "section", "article", "dl", "dt", "dd", "code", "details", "summary", "div", "table", "thead", "tbody"),
    *("tr", "th", "td", "pre", "i", "b", "strong", "svg", "path", "script", "label", "input", "br", "wbr"),
    *("figure", "figcaption"),
}
_OUR_ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "id", "class", "href", "aria-label", "scope", "role", "open"),
    *("tabindex", "data-value", "style", "hidden", "type", "autocomplete", "viewbox", "preserveaspectratio", "d"),
    *("data-title", "aria-hidden", "title", "colspan", "rowspan"),
}


class Page(HTMLParser):
    """A page whose elements are closed in their order, with our tags and attributes alone."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: dict[str, set[str]] = {}
        self.texts: list[str] = []
        self._open: list[str] = []
        self._is_glued = False
        self.feed(html)
        self.close()
        assert self._open == [], self._open

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._is_glued = tag == "wbr"
        if tag not in _VOID and tag != "path":
            self._open.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "path"
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, (tag, self._open)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            if self._is_glued and self.texts:
                self.texts[-1] += data
            else:
                self.texts.append(data)
        self._is_glued = False

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def read_page(html: str) -> Page:
    """Parse a page, and hold it against what our template writes."""
    page = Page(html)
    assert page.tags.count("script") == page.tags.count("style") == page.tags.count("title") == 1
    assert set(page.tags) <= _OUR_TAGS, set(page.tags) - _OUR_TAGS
    assert set(page.attributes) <= _OUR_ATTRIBUTES, set(page.attributes) - _OUR_ATTRIBUTES
    assert len(page.ids) == len(set(page.ids))
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)
    assert_printable(html)
    return page


def read_markdown(text: str) -> list[Token]:
    """Parse Markdown with tables and links, and hold it against what our form writes."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    flat = [inner for token in tokens for inner in (token, *(token.children or ()))]
    kinds = {token.type for token in flat}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "hr", "blockquote_open", "s_open", "em_open"}
    assert not kinds & {"code_block", "softbreak", "hardbreak", "ordered_list_open"}
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            title = tokens[index + 1].content
            assert token.markup in ("#", "##", "###")
            assert token.markup == "###" or re.match(r"theworld-validate: \w+|Findings|Checks|Environment", title), (
                title
            )
    width = 0
    for token in flat:
        if token.type in ("table_open", "tr_open"):
            assert token.type == "table_open" or width in (0, len_of_row(flat, token))
            width = 0 if token.type == "table_open" else len_of_row(flat, token)
    in_fences = {i for token in tokens if token.type == "fence" and token.map for i in range(*token.map)}
    for i, line in enumerate(text.split("\n")):
        assert i in in_fences or not line.startswith("|") or len(re.findall(r"(?<!\\)\|", line)) >= 2
    assert_pipes(text)
    assert_printable(text)
    return tokens


def len_of_row(flat: list[Token], row: Token) -> int:
    """Cells between a row's start and its end."""
    start = next(index for index, token in enumerate(flat) if token is row)
    end = next(index for index in range(start, len(flat)) if flat[index].type == "tr_close")
    return sum(token.type in ("th_open", "td_open") for token in flat[start:end])


def assert_pipes(text: str) -> None:
    """Neighbouring lines of a table have as many cells, counted by their bars."""
    bars = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            bars = 0
            continue
        own = line.count("|")
        assert bars in (0, own), line
        bars = own


def visible_text(tokens: list[Token]) -> str:
    """What a reader of the Markdown sees."""
    flat = [inner for token in tokens for inner in (token, *(token.children or ()))]
    return "".join(token.content for token in flat if token.type in ("text", "code_inline", "text_special", "fence"))


def read_junit(text: str) -> ElementTree.Element:
    """Parse JUnit XML as UTF-8 bytes, and hold it against its schema's elements."""
    root = ElementTree.fromstring(text.encode("utf-8"))
    tags = {element.tag for element in root.iter()}
    assert tags <= {
        *("testsuites", "testsuite", "testcase", "properties", "property"),
        *("failure", "error", "skipped", "system-out"),
    }
    assert_printable("".join(element.text or "" for element in root.iter()))
    assert_printable("".join(value for element in root.iter() for value in element.attrib.values()))
    return root


def read_terminal(report: Report, *, width: int = 80) -> str:
    """Print a report without colour, and hold it against what a terminal or a CI runner would obey."""
    with io.StringIO() as printed:
        print_report(Console(file=printed, width=width), report)
        text = printed.getvalue()
    assert_printable(text)
    assert max(map(cell_len, text.splitlines())) <= width
    assert not re.search(r"(?m)^\s*::", text)
    assert "##[" not in text
    return text


def read_annotations(lines: list[str]) -> list[tuple[str, str, str]]:
    """Read workflow commands as the runner does: kind, title, message."""
    read = []
    for line in lines:
        assert "\n" not in line
        assert "\r" not in line
        assert_printable(line)
        match = re.fullmatch(r"::(error|warning|notice) title=([^,:]*)::(.*)", line)
        assert match, line
        read.append((match[1], _unescape(match[2]), _unescape(match[3])))
    return read


def _unescape(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def assert_printable(text: str) -> None:
    """Nothing but printable characters and line ends, so no control, bidi, surrogate or unassigned ones."""
    odd = {character for character in text if not character.isprintable() and character != "\n"}
    assert not odd, odd
