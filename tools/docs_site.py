"""What the site has beyond docs/: pages made from the code, and links to files that are no pages. A hook of mkdocs.

In: the command lines, the published schema, the packages' public names; the text of each page. Out: the pages under
reference/, and the same text whose links to other files of the repository lead to where it is hosted. The pages are
made when the site is built, so that none of them can be older than the code. A site that would load anything from the
net is refused.
"""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
HOSTED = "https://github.com/theworld/theworld/blob/main/"
SCHEMA = ROOT / "validation" / "theworld_validate" / "documents" / "report.schema.json"
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_PLAIN = {"boolean", "integer", "number", "string"}
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc(?:set)?=["']?((?:https?:)?//[^"'\s>]+)""" + "|"
    r"""<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
)


def on_files(files: Any, config: Any) -> Any:
    """Give mkdocs the pages that are made from the code."""
    from mkdocs.structure.files import File

    for path, text in reference_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links that leave docs/ lead to the hosted repository."""
    return hosted_links(markdown, page.file.src_uri)


def on_post_build(config: Any, **_: Any) -> None:
    """Refuse a site that loads anything from elsewhere."""
    from mkdocs.exceptions import PluginError

    for page in sorted(Path(config.site_dir).rglob("*.html")):
        for address in loaded_from_the_net(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page.name} loads {address}; keep a copy beside it, or leave it out")


def loaded_from_the_net(html: str) -> list[str]:
    """What a page would fetch from another host when it is opened; links to follow are none."""
    return [match[1] or match[2] for match in _LOADED.finditer(html)]


def hosted_links(text: str, page: str) -> str:
    """Replace each relative link of a page, named from docs/, that leaves docs/ or is no page of the site."""

    def hosted(match: re.Match[str]) -> str:
        target = match[1]
        if re.match(r"[a-z]+:|#|/", target):
            return target
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        return HOSTED + path if not path.startswith("docs/") or path.startswith("docs/ci/") else target

    return _LINK.sub(hosted, text)


def reference_pages() -> dict[str, str]:
    """The pages that are made, by their path in the site."""
    from theworld.training.__main__ import app as train
    from theworld_validate.cli import app as validate

    return {
        "reference/commands.md": _commands(validate, "theworld-validate", "The commands of theworld-validate"),
        "reference/training-command.md": _commands(train, "theworld-train", "The command theworld-train"),
        "reference/report-schema.md": _schema(json.loads(SCHEMA.read_text(encoding="utf-8"))),
        "reference/python.md": _python(),
    }


def _commands(app: Any, name: str, title: str) -> str:
    """Every command with its options, by typer's own writer."""
    import typer
    from typer.cli import get_docs_for_click

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name=name, title=title)
    return re.sub(r"(?<!`)<([^<>`]+)>(?!`)", r"&lt;\1&gt;", text)


def _schema(schema: dict[str, Any]) -> str:
    """The published JSON Schema: a section for each kind of object, a row for each key."""
    lines = [
        "# The report's schema",
        "",
        f"`report.json` as `{schema['properties']['schema']['const']}`. "
        f"The [schema itself]({HOSTED}{SCHEMA.relative_to(ROOT).as_posix()}) is installed with the package. "
        "What a report is for, and how to read one: [reports](../reports.md).",
    ]
    for name, described in {"Report": schema, **schema["$defs"]}.items():
        if "properties" not in described:
            continue
        about, meanings = _docstring(described.get("description", ""))
        lines += ["", f"## {name}", "", about, ""]
        lines += ["| key | type | always there | what it is |", "|---|---|---|---|"]
        needed = described.get("required", ())
        for key, value in described["properties"].items():
            meaning = value.get("description") or meanings.get(key, "")
            cells = [f"`{key}`", _type(value, schema["$defs"]), "yes" if key in needed else "no", meaning]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a kind of object is, and the meaning of its fields, from its docstring."""
    about, _, arguments = text.partition("Args:")
    fields = re.findall(r"^ *([a-z_]+(?:, [a-z_]+)*): (.*(?:\n(?! *[a-z_, ]+: ).*\S.*)*)", arguments, re.MULTILINE)
    meanings = {name: " ".join(meaning.split()) for names, meaning in fields for name in names.split(", ")}
    return " ".join(about.split()), meanings


def _type(value: dict[str, Any], defined: dict[str, Any]) -> str:
    """A key's type in words; a kind of object as a link to its section."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "properties" in defined[name] else _type(defined[name], defined)
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value:
        kinds = list(dict.fromkeys(_type(one, defined) for one in value["anyOf"]))
        if set(kinds) >= _PLAIN:
            kinds = ["plain value", *(kind for kind in kinds if kind not in _PLAIN | {"null"})]
        return " or ".join(kinds)
    inner = value.get("items", value.get("additionalProperties"))
    if isinstance(inner, dict) and inner:
        return f"{value['type']} of {_type(inner, defined)}"
    return str(value.get("type", "any value"))


def _python() -> str:
    """The public names of both packages; mkdocstrings reads their signatures and docstrings."""
    import theworld
    import theworld_validate

    lines = ["# The Python API", "", "Every public name is imported when it is first used."]
    for package, what in ((theworld, "The model"), (theworld_validate, "The harness")):
        lines += ["", f"## {what}: `{package.__name__}`"]
        for name in (name for name in package.__all__ if not name.startswith("_")):
            lines += ["", f"::: {package.__name__}.{name}"]
    return "\n".join(lines) + "\n"
