"""Fingerprints and reports that were edited, from the command: missing evidence is no pass, a wrong field is one line.

Hostile names and values go through `diff` into all five forms, each of which is read as strictly as its readers do.
"""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.theworld_validate.command_line import assert_input_error, invoke
from tests.theworld_validate.rendering.form_readers import (
    assert_printable,
    read_annotations,
    read_junit,
    read_markdown,
    read_page,
)
from tests.theworld_validate.rendering.test_hostile_text import HOSTILE
from theworld.synthetic import SyntheticCheckpoint

SECTIONS = ("files", "config", "modules", "parameters", "buffers", "globals", "trace", "outputs", "generation")
SECTIONS = (*SECTIONS, "gradients", "round_trip")
Values = dict[str, Any]
Edit = Callable[[Values], object]


@pytest.fixture(scope="module")
def fingerprint(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Values:
    """One whole fingerprint's values; nobody may change them."""
    path = tmp_path_factory.mktemp("fingerprint") / "a.json"
    assert invoke("fingerprint", "--model", tiny.gemma, "--output", path).exit_code == 0
    return dict(json.loads(path.read_text()))


class Diff:
    """Two copies of a fingerprint, each edited, and what `diff` says of them."""

    def __init__(
        self,
        values: Values,
        folder: Path,
        reference: Edit | None,
        candidate: Edit | None,
        options: tuple[object, ...] = ("--json",),
    ) -> None:
        paths = [folder / "a.json", folder / "b.json"]
        for path, edit in zip(paths, (reference, candidate), strict=True):
            edited = copy.deepcopy(values)
            if edit is not None:
                edit(edited)
            path.write_text(json.dumps(edited))
        self.result = invoke("diff", *paths, *options)
        self.checks: dict[str, Values] = {}
        if self.result.exit_code != 2 and "--json" in options:
            self.checks = {check["id"]: check for check in json.loads(self.result.stdout)["checks"]}

    def refused(self, *parts: str) -> None:
        """Hold it against one line."""
        assert self.result.exit_code == 2, self.result.output
        (line,) = self.result.stderr.splitlines()
        assert_printable(line)
        for part in parts:
            assert part in line


def lose(section: str) -> Edit:
    """Delete a section, and everything that names it."""

    def edit(values: Values) -> None:
        for field in ("sections", "num_observations", "num_bytes"):
            values[field].pop(section, None)
        values["plan"]["sections"].remove(section)

    return edit


def keep_probes(*names: str) -> Edit:
    """Delete every other probe, and everything that names it."""

    def edit(values: Values) -> None:
        values["plan"]["probes"] = list(names)
        for section in ("trace", "outputs", "generation"):
            seen = values["sections"][section]
            values["sections"][section] = {k: v for k, v in seen.items() if k.partition("/")[0] in names}
            values["num_observations"][section] = len(values["sections"][section])

    return edit


def both(*edits: Edit) -> Edit:
    """One edit after the other."""

    def edit(values: Values) -> None:
        for each in edits:
            each(values)

    return edit


def put(*path: str | int, value: Any) -> Edit:
    """Set what a path of keys leads to."""

    def edit(values: Values) -> None:
        inner: Any = values
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return edit


def test_a_fingerprint_is_itself(fingerprint: Values, tmp_path: Path) -> None:
    diff = Diff(fingerprint, tmp_path, None, None)
    assert diff.result.exit_code == 0
    assert {check["status"] for check in diff.checks.values()} == {"passed"}
    assert len(diff.checks) == 16


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("sides", ["reference", "candidate", "both"])
def test_a_section_that_is_gone_is_no_pass(fingerprint: Values, tmp_path: Path, section: str, sides: str) -> None:
    edit = lose(section)
    diff = Diff(fingerprint, tmp_path, edit if sides != "candidate" else None, edit if sides != "reference" else None)
    assert diff.result.exit_code == 3, diff.result.output
    touched = {name for name, check in diff.checks.items() if check["status"] != "passed"}
    probes = {name for name in diff.checks if name.startswith("parity.probe.")}
    whose = "both sides" if sides == "both" else f"the {sides}"
    if section in ("trace", "outputs", "generation"):
        assert touched == probes
        has_some = {k.partition("/")[0] for k in fingerprint["sections"][section]}
        for name in probes:
            probe = diff.checks[name]["measurements"]["probe"]
            whose_own = whose if probe in has_some else "both sides"  # generation is not asked of every probe
            assert diff.checks[name]["reason"] == f"evidence is missing: {section} of {probe} of {whose_own}"
    else:
        # What is saved must come back as it was: without what it was, that is not known.
        also = {"parity.round_trip"} if section in ("config", "parameters", "buffers") else set()
        assert touched == {f"parity.{section}"} | also
        for name in touched:
            assert diff.checks[name]["reason"] == f"evidence is missing: {section} of {whose}"
            assert diff.checks[name]["findings"] == []
    assert {diff.checks[name]["status"] for name in touched} == {"inconclusive"}


@pytest.mark.parametrize("sides", ["reference", "candidate", "both"])
def test_probes_that_are_gone_are_no_pass(fingerprint: Values, tmp_path: Path, sides: str) -> None:
    edit = keep_probes("text")
    diff = Diff(fingerprint, tmp_path, edit if sides != "candidate" else None, edit if sides != "reference" else None)
    assert diff.result.exit_code == 3
    touched = {name for name, check in diff.checks.items() if check["status"] == "inconclusive"}
    assert touched == {name for name in diff.checks if name.startswith("parity.probe.")} - {"parity.probe.text"}


def test_a_config_alone_is_no_pass(fingerprint: Values, tmp_path: Path) -> None:
    edit = both(*(lose(section) for section in SECTIONS if section != "config"))
    diff = Diff(fingerprint, tmp_path, edit, edit)
    assert diff.result.exit_code == 3
    assert diff.checks["parity.config"]["status"] == "passed"
    assert {
        check["status"] for name, check in diff.checks.items() if name not in ("parity.config", "diff.surroundings")
    } == {"inconclusive"}


def null_digests(values: Values) -> None:
    for section in values["sections"].values():
        for seen in section.values():
            if "digest" in seen:
                seen["digest"] = None


REFUSED: dict[str, tuple[Edit, str]] = {
    "fp-null-digests": (null_digests, "field digest is no digest"),
    "fp-layer-list": (put("sections", "config", value=[]), "sections.config"),
    "fp-layer-null": (put("sections", "config", value=None), "sections.config"),
    "fp-layer-unknown": (put("sections", "evil", value={}), "evil"),
    "fp-obs-int": (put("sections", "config", "config.boi_token_index", value=5), "config.boi_token_index"),
    "fp-obs-list": (put("sections", "config", "config.boi_token_index", value=[5]), "config.boi_token_index"),
    "fp-obs-empty": (put("sections", "config", "config.boi_token_index", value={}), "nothing was observed"),
    "fp-obs-more": (
        put("sections", "config", "new", value={"value": 5}),
        "section config holds 158 observations of 157",
    ),
    "fp-value-list": (
        put("sections", "config", "config.boi_token_index", "value", value=[5]),
        "config.boi_token_index",
    ),
    "fp-numbytes-str": (put("num_bytes", "parameters", value="5"), "num_bytes.parameters"),
    "fp-numbytes-list": (put("num_bytes", value=[]), "num_bytes"),
    "fp-numbytes-neg": (put("num_bytes", "parameters", value=-40_000_000_000_000), "num_bytes"),
    "fp-env-list": (put("environment", value=[]), "environment"),
    "fp-env-null": (put("environment", value=None), "environment"),
    "fp-subject-str": (put("subject", value="x"), "subject"),
    "fp-subject-more": (put("subject", "evil", value=1), "subject.evil"),
    "fp-plan-null": (put("plan", value=None), "plan"),
    "fp-plan-unknown": (put("plan", "sections", value=["evil"]), "evil"),
    "fp-failures": (put("failures", value=[5]), "failures"),
    "fp-no-probe": (put("sections", "outputs", value={"logits": {"digest": "0" * 32}}), "outputs"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("sides", ["reference", "both"])
def test_a_field_of_another_kind_is_one_line(fingerprint: Values, tmp_path: Path, case: str, sides: str) -> None:
    edit, named = REFUSED[case]
    diff = Diff(fingerprint, tmp_path, edit, edit if sides == "both" else None)
    diff.refused(f"{tmp_path}/a.json: ", named, "make it again")


@pytest.mark.parametrize("what", ["fifo", "/dev/zero", "folder", "two keys", "NaN", "deep"])
@pytest.mark.parametrize("command", ["diff", "regress", "render"])
def test_what_is_no_document_is_one_line(tmp_path: Path, command: str, what: str) -> None:
    path = tmp_path / "a.json"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "/dev/zero":
        path.symlink_to(what)
    elif what == "folder":
        path.mkdir()
    else:
        texts = {"two keys": '{"schema": 1, "schema": 2}', "NaN": '{"schema": NaN}', "deep": "[" * 100_000}
        path.write_text(texts[what])
    result = invoke(command, *([path] if command == "render" else [path, path]))
    assert_input_error(result, str(path))
    assert_printable(result.stderr)


# Hostile names and values


def read_all_forms(folder: Path) -> Values:
    """Read the five forms of a report folder, and what it says."""
    report = json.loads((folder / "report.json").read_text())
    read_markdown((folder / "report.md").read_text())
    read_page((folder / "report.html").read_text())
    read_junit((folder / "junit.xml").read_text())
    for path in folder.glob("*.svg"):
        ElementTree.parse(path)
    assert {path.name for path in folder.iterdir()} == set(report["files"])
    return dict(report)


def read_terminal_and_annotations(result: Any) -> None:
    """Nothing that a terminal or a CI runner would obey, but our own annotations."""
    assert_printable(result.stdout)
    assert_printable(result.stderr)
    assert not [line for line in result.stdout.splitlines() if line.lstrip().startswith("::")]
    assert "##[" not in result.stdout
    lines = [line for line in result.stderr.splitlines() if not line.startswith("report: ")]
    assert read_annotations(lines)


def hostile_value(text: str) -> Edit:
    """Put a text into values and names of most sections."""

    def edit(values: Values) -> None:
        sections = values["sections"]
        sections["config"]["config.boi_token_index"]["value"] = text
        for section in ("config", "modules", "globals"):
            sections[section][f"x.{text}"] = {"value": text}
            values["num_observations"][section] += 1
        values["subject"]["target"] = values["subject"]["printed"] = text
        values["environment"]["packages"] = {text[:200]: text[:200]}

    return edit


def hostile_probe(text: str) -> Edit:
    """Name a probe so, in every place."""
    name = text.replace("/", "-") or "x"

    def edit(values: Values) -> None:
        values["plan"]["probes"][0] = name
        for section in ("trace", "outputs", "generation"):
            seen = values["sections"][section]
            values["sections"][section] = {
                (f"{name}/{k.partition('/')[2]}" if k.startswith("text/") else k): v for k, v in seen.items()
            }

    return edit


def change_text_probe(values: Values) -> None:
    location = next(k for k in values["sections"]["trace"] if k.endswith("model.language_model.embed_tokens"))
    values["sections"]["trace"][location]["digest"] = "0" * 32


# A lone surrogate is refused where the file is read.
TEXTS = {name: text for name, text in HOSTILE.items() if name != "surrogate"}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", ["value", "probe"])
def test_hostile_text_in_a_fingerprint_changes_no_form(
    fingerprint: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    text, few = TEXTS[name], keep_probes("text")
    edits = (few, both(few, hostile_value(text)))
    if kind == "probe":
        edits = (both(few, hostile_probe(text)), both(few, hostile_probe(text), change_text_probe))
    result = Diff(fingerprint, tmp_path, *edits, ("--output", tmp_path / "report")).result
    assert result.exit_code == 1, result.output
    read_terminal_and_annotations(result)
    report = read_all_forms(tmp_path / "report")
    read_markdown(summary.read_text())
    assert report["verdict"] == "failed"
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json", "report", "summary.md"}


@pytest.mark.parametrize("kind", ["value", "probe"])
def test_half_a_surrogate_pair_is_one_line(fingerprint: Values, tmp_path: Path, kind: str) -> None:
    edit = hostile_value("\ud800") if kind == "value" else hostile_probe("\ud800")
    Diff(fingerprint, tmp_path, edit, edit).refused(f"{tmp_path}/a.json: ", "half a surrogate pair")


# Reports that are held against each other


@pytest.fixture(scope="module")
def small_report(tiny: SyntheticCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Values:
    """A whole report's values; nobody may change them."""
    folder = tmp_path_factory.mktemp("report")
    assert invoke("params", "--config", "tiny", "--output", folder / "a").exit_code == 0
    return dict(json.loads((folder / "a" / "report.json").read_text()))


def regress(values: Values, folder: Path, *edits: Edit | None, options: tuple[object, ...] = ()) -> Any:
    paths = [folder / "base.json", folder / "current.json"]
    for path, edit in zip(paths, edits, strict=True):
        edited = copy.deepcopy(values)
        if edit is not None:
            edit(edited)
        path.write_text(json.dumps(edited))
    return invoke("regress", *paths, *options)


def no_checks(values: Values) -> None:
    values.update(checks=[], verdict="inconclusive")


def all_skipped(values: Values) -> None:
    for check in values["checks"]:
        check.update(status="skipped", reason="x")
    values["verdict"] = "inconclusive"


@pytest.mark.parametrize("edit", [no_checks, all_skipped])
@pytest.mark.parametrize("sides", ["base", "both"])
def test_reports_that_prove_nothing_are_no_pass(small_report: Values, tmp_path: Path, edit: Edit, sides: str) -> None:
    result = regress(small_report, tmp_path, edit, edit if sides == "both" else None)
    assert result.exit_code == 3, result.output


WRONG_REPORTS: dict[str, tuple[Edit, str]] = {
    "rg-verdict-failed": (put("verdict", value="failed"), "field verdict is 'failed'"),
    "rg-base-verdictNaN": (put("verdict", value=None), "field verdict is None"),
    "rg-checks-str": (put("checks", value="x"), "checks"),
    "rg-check-nostatus": (lambda values: values["checks"][0].pop("status"), "checks[0].status"),
    "rg-check-badstatus": (put("checks", 0, "status", value="fine"), "checks[0].status"),
    "rg-check-nomeas": (put("checks", 0, "measurements", value=None), "checks[0].measurements"),
    "rg-check-findings": (put("checks", 0, "findings", value=[{}]), "checks[0].findings[0]"),
    "rg-check-id": (put("checks", 0, "id", value="../../x"), "check id"),
    "rg-calib-neg": (put("environment", "calibration_seconds", value=-1.0), "calibration_seconds"),
    "rg-env-pkglist": (put("environment", "packages", value=[]), "environment.packages"),
    "rg-key-int": (put("environment", "gpu", value=5), "environment.gpu"),
    "rg-key-long": (put("environment", "gpu", value="x" * 5000), "environment.gpu"),
    "rg-file": (put("files", value=["../../x"]), "files"),
}


@pytest.mark.parametrize("case", WRONG_REPORTS)
@pytest.mark.parametrize("command", ["regress", "update", "render"])
def test_a_wrong_report_is_one_line(small_report: Values, tmp_path: Path, case: str, command: str) -> None:
    edit, named = WRONG_REPORTS[case]
    if command == "regress":
        result = regress(small_report, tmp_path, None, edit)
    elif command == "update":
        baselines = tmp_path / "baselines"
        regress(small_report, tmp_path, None, edit)
        result = invoke("regress", baselines, tmp_path / "current.json", "--update")
        assert not baselines.exists()
    else:
        regress(small_report, tmp_path, None, edit)
        result = invoke("render", tmp_path / "current.json", "--output", tmp_path / "forms")
        assert not (tmp_path / "forms").exists()
    assert_input_error(result, f"{tmp_path}/current.json: ", named)
    assert_printable(result.stderr)


def test_a_version_cannot_lead_out_of_the_baselines(small_report: Values, tmp_path: Path) -> None:
    baselines = tmp_path / "a" / "b" / "baselines"
    baselines.mkdir(parents=True)
    regress(small_report, tmp_path, None, put("environment", "packages", "torch", value="../../../.."))
    before = sorted(path for path in tmp_path.rglob("*") if baselines not in path.parents)
    result = invoke("regress", baselines, tmp_path / "current.json", "--update")
    assert result.exit_code == 0, result.output
    assert sorted(path for path in tmp_path.rglob("*") if baselines not in path.parents) == before


@pytest.mark.parametrize("text", ["[memory]\ngrowth=nan", "[memory]\ngrowth=inf", "[memory]\nevil=1", "x", "[memory"])
def test_limits_that_are_no_numbers_are_one_line(small_report: Values, tmp_path: Path, text: str) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(text)
    result = regress(small_report, tmp_path, None, None, options=("--budget", limits))
    assert_input_error(result, str(limits))


def test_hostile_text_in_a_finding_leaves_the_terminal_clean(small_report: Values, tmp_path: Path) -> None:
    text = "[red] \x1b[31m <script>\n::error::x"
    finding = {"code": "x", "location": text, "message": text, "cause": text, "remedy": text}

    def edit(values: Values) -> None:
        values["checks"][0].update(status="failed", findings=[finding])
        values["verdict"] = "failed"

    result = regress(small_report, tmp_path, None, edit)
    assert result.exit_code == 1
    assert_printable(result.output)
    assert not [line for line in result.stdout.splitlines() if line.lstrip().startswith("::")]
