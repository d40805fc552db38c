"""What the page draws: the evidence of a divergence, what was proved, memory on one axis, grids, claims."""

import re
from dataclasses import replace

import pytest

from tests.theworld_validate.rendering.form_readers import read_page, read_terminal
from tests.theworld_validate.rendering.sample_pages import (
    CAPACITY,
    GB,
    LEVERS,
    LOST,
    PRESETS,
    REPORTS,
    claims_report,
    divergence,
    failing_report,
    inconclusive_report,
    memory_report,
    passed,
    passing_report,
    releases_report,
)
from tests.theworld_validate.rendering.sample_reports import CAUSE, PLAN, SUBJECTS, make_report
from theworld_validate.rendering.junit import render_junit
from theworld_validate.rendering.markdown import render_markdown
from theworld_validate.rendering.names import finding_anchor
from theworld_validate.rendering.page import render_html
from theworld_validate.rendering.page.axis import axis_to, axis_with_limit
from theworld_validate.rendering.page.evidence import Evidence, evidence_of
from theworld_validate.rendering.page.memory import Memory, memory_of
from theworld_validate.rendering.page.module_tree import TreeCell, make_tree
from theworld_validate.results import CheckResult, Report, Status


def evidence(report: Report) -> Evidence:
    found = evidence_of(report)
    assert found is not None
    return found


def memory(report: Report, index: int = 0) -> Memory:
    found = memory_of(report.checks[index])
    assert found is not None
    return found


@pytest.mark.parametrize("kind", REPORTS)
def test_every_kind_is_a_sound_page_with_an_anchor_a_finding(kind: str) -> None:
    report = REPORTS[kind]()
    page = read_page(render_html(report))
    assert page.tags.count("h1") == 1
    for check in report.checks:
        assert all(finding_anchor(check.id, finding) in page.ids for finding in check.findings)


def test_the_evidence_begins_at_the_exact_place() -> None:
    found = evidence(failing_report())
    assert (found.place, found.probe) == ("model.layers.1.mlp.down_proj", "text")
    assert found.probes == ["text", "left_padded_batch"]
    assert found.equal_probes == ["image"]
    (first,) = [row for row in found.rows if row.first]
    assert (first.label, first.first) == ("layers.1", "mlp.down_proj")
    assert ("elements that differ", "1.25 %") in found.numbers


def test_without_a_second_look_the_place_is_the_findings() -> None:
    report = failing_report()
    checks = tuple(
        replace(check, measurements={k: v for k, v in check.measurements.items() if not k.startswith("divergence_")})
        for check in report.checks
    )
    found = evidence(replace(report, checks=checks))
    assert found.place == "model.layers.1"
    assert (found.numbers, found.spread) == ([], [])
    assert next(fact.text for fact in found.facts) == "not compared"


def test_what_lies_before_the_first_difference_is_only_said_where_it_was_compared() -> None:
    facts = {fact.name: (fact.text, fact.is_good) for fact in evidence(failing_report()).facts}
    assert facts == {
        "its inputs": ("equal", True),
        "parameters": ("equal, bit for bit", True),
        "buffers": ("differ", False),
        "the reference, run twice": ("differs", False),
    }
    report = failing_report()
    without = replace(report, checks=tuple(check for check in report.checks if check.id != "parity.parameters"))
    assert {fact.name: fact.is_good for fact in evidence(without).facts}["parameters"] is None


def test_where_nothing_differs_there_is_no_evidence() -> None:
    assert evidence_of(passing_report()) is None
    assert evidence_of(make_report([passed("parity.probe.text", divergence=divergence([0] * 6))])) is None


def test_the_tree_has_its_parents_and_joins_layers_that_look_alike() -> None:
    modules = {
        "model.embed": (1, 0),
        **{f"model.layers.{i}": (9, 0 if i < 2 else 4) for i in range(5)},
        "lm_head": (1, 1),
    }
    rows, left_out = make_tree([modules], first="model.layers.2", place="model.layers.2.mlp")
    assert left_out == 0
    assert [(row.depth, row.label, row.first) for row in rows] == [
        (0, "model", ""),
        (1, "embed", ""),
        (1, "layers.0 to 1", ""),
        (1, "layers.2", "mlp"),
        (1, "layers.3 to 4", ""),
        (0, "lm_head", ""),
    ]


def test_what_only_one_probe_calls_stands_where_it_is_called() -> None:
    text = {"a": (1, 0), "c": (1, 1)}
    image = {"a": (1, 0), "b": (2, 2), "c": (1, 1), "d": (1, 0)}
    rows, _ = make_tree([text, image], first="c", place="c")
    assert [row.label for row in rows] == ["a", "b", "c", "d"]
    assert [row.cells[0] is None for row in rows] == [False, True, False, True]
    rows, _ = make_tree([{**text, "e": (1, 1), "f": (1, 1)}, image], first="c", place="c")
    assert [row.label for row in rows] == ["a", "b", "c", "d", "e", "f"]


def test_a_large_tree_is_cut_around_its_first_difference() -> None:
    modules = {f"m{i}.x": (2, int(i >= 900)) for i in range(1000)}
    rows, left_out = make_tree([modules], first="m900.x", place="m900.x")
    assert len(rows) + left_out == 2000
    assert len(rows) <= 300
    assert any(row.first for row in rows)


def test_a_bar_of_nothing_has_no_length() -> None:
    cell = TreeCell(outputs=18, differing=0)
    assert (cell.percent, cell.text) == (0, "0")
    html = render_html(failing_report())
    assert '<td style="--part:0.0%"><span class="wide">0 of 18</span>' in html
    assert '<td style="--part:94.4%"><span class="wide">17 of 18</span>' in html


def test_a_share_is_never_rounded_to_none_or_all() -> None:
    assert [TreeCell(outputs=1000, differing=number).text for number in (1, 500, 999, 1000)] == [
        "1 %",
        "50 %",
        "99 %",
        "100 %",
    ]


def test_the_spread_has_a_bar_a_layer() -> None:
    bars = evidence(failing_report()).spread
    assert [(bar.height, bar.text) for bar in bars] == [
        (0.0, "layer 0: equal"),
        (25.0, "layer 1: up to 1e-6"),
        (87.5, "layer 2: up to 1e-1"),
        (100.0, "layer 3: not finite"),
    ]
    assert 'aria-label="layer 0: equal; layer 1: up to 1e-6' in render_html(failing_report())


@pytest.mark.parametrize(
    ("num_bytes", "texts"),
    [
        (0, ["0", "1", "2", "3", "4", "5", "6 B"]),
        (130.7 * GB, ["0", "25", "50", "75", "100", "125", "150 GB"]),
        (6 * GB, ["0", "1", "2", "3", "4", "5", "6 GB"]),
        (999_999, ["0", "0.2", "0.4", "0.6", "0.8", "1 MB"]),
    ],
)
def test_an_axis_has_round_steps_with_units(num_bytes: float, texts: list[str]) -> None:
    axis = axis_to(num_bytes)
    assert [tick.text for tick in axis.ticks] == texts
    assert axis.end_bytes >= num_bytes
    assert axis.ticks[-1].at == 100


def test_an_axis_of_any_size_holds_what_is_drawn() -> None:
    for power in range(62):
        for number in (2**power, 3 * 2**power - 1):
            axis = axis_to(number)
            assert 2 <= len(axis.ticks) <= 7
            assert 0 < axis.share(number) <= 100


def test_the_axis_reaches_the_limit_unless_that_is_far() -> None:
    assert axis_with_limit(10 * GB, 40 * GB).end_bytes == 40 * GB
    assert axis_with_limit(9 * GB, 40 * GB).end_bytes == 10 * GB
    assert axis_with_limit(9 * GB, None).end_bytes == 10 * GB


def test_memory_is_grouped_by_preset_on_one_axis_with_the_limit() -> None:
    found = memory(memory_report())
    assert [group.name for group in found.groups] == list(PRESETS)
    assert [len(group.bars) for group in found.groups] == [len(LEVERS)] * len(PRESETS)
    assert [group.is_open for group in found.groups] == [True, False, False, False]
    assert found.groups[0].summary == "4 configurations, 8.0 GB to 20.0 GB"
    assert found.limit is not None
    assert found.limit.text == "the limit: 40.0 GB that a GPU leaves a process"
    axis = axis_with_limit(69 * GB, CAPACITY)
    assert found.limit.at == axis.share(CAPACITY)
    bar = found.groups[0].bars[0]
    assert [segment.text for segment in bar.segments] == ["parameters 8.0 GB"]  # a segment of nothing is none
    assert (bar.fits, bar.reserved) == (True, axis.share(9 * GB))
    assert found.groups[3].bars[3].fits is False
    ticks = {panel.ticks for group in found.groups for panel in group.courses}
    assert ticks == {axis_to(68 * GB).ticks}  # one axis for all


def test_a_cell_that_ran_out_of_memory_has_a_row_too() -> None:
    report = memory_report()
    measured = dict(report.checks[0].measurements)
    gone = {"configuration": "full + huge", "world_tokens": 784, "text_tokens": 1024, "batch": 1}
    cells = measured["cells"]
    assert isinstance(cells, list)
    measured["cells"] = [*cells, {**gone, "peak_allocated_bytes": None, "out_of_memory": "backward"}]  # type: ignore[list-item]
    last = memory(replace(report, checks=(replace(report.checks[0], measurements=measured),))).groups[-1].bars[-1]
    assert (last.label, last.total, last.fits, last.segments) == ("full + huge", "out of memory in backward", False, [])


def test_the_limit_says_how_it_comes_of_the_gpus_memory() -> None:
    report = memory_report()
    told = {**report.checks[0].measurements, "about_capacity": "22 GiB less 2 % of margin"}
    found = memory(replace(report, checks=(replace(report.checks[0], measurements=told),)))
    assert found.limit is not None
    assert found.limit.text == "the limit: 40.0 GB that a GPU leaves a process (22 GiB less 2 % of margin)"
    assert "16 predicted, 40.0 GB can be reserved" in read_page(render_html(report)).text


def test_a_run_is_drawn_with_its_limit() -> None:
    found = memory(memory_report(), 1)
    (plot,) = found.plots
    assert [line.name for line in plot.lines] == ["reserved", "allocated"]
    assert (plot.begin, plot.end, plot.across, plot.limit_text) == ("1", "30", "step", "the limit: 40.0 GB")
    assert plot.limit == 100.0
    numbers = re.findall(r"[\d.]+", plot.lines[0].path)
    assert numbers[:2] == ["0.00", "55.00"]  # 18 of 40 GB
    assert numbers[-2] == "100.00"


def test_a_pass_says_what_was_proved() -> None:
    text = read_page(render_html(passing_report())).text
    assert "theworld:TheWorld is transformers:Gemma3ForConditionalGeneration, bit for bit" in text
    for shown in (
        "529 tensors compared, bit for bit",
        "300 outputs of modules",
        "3.0 GB of weights",
        "0 outputs that differ",
    ):
        assert shown in text


@pytest.mark.parametrize("weaker", ["skipped", "judged", "allowed", "not compared"])
def test_bit_for_bit_is_said_of_nothing_less(weaker: str) -> None:
    report = passing_report()
    others = {
        "skipped": CheckResult(id="parity.gradients", status=Status.SKIPPED, reason="none", seconds=0.0),
        "judged": passed("parity.judgement"),
        "allowed": passed("parity.allowed.rng", places=1),
    }
    checks = [*report.checks, others[weaker]] if weaker in others else report.checks[:1]
    assert "is transformers:" not in read_page(render_html(replace(report, checks=tuple(checks)))).text


def test_noise_is_one_cause_on_the_page_and_on_the_terminal() -> None:
    report = inconclusive_report()
    num_following = sum(len(check.findings) for check in report.checks) - 1
    page = read_page(render_html(report))
    assert f"The cause ({num_following} findings follow)" in page.text
    assert "#findings" in page.links
    terminal = read_terminal(report, width=200)
    assert terminal.count("cause: the reference itself") == 2  # its own, and the likeliest
    assert f"and {num_following} that follow from it" in terminal
    assert "more" not in terminal.split("parity.control: ")[1]
    assert "<dt>reference and candidate</dt><dd>target" in render_html(report)


def test_what_was_not_decided_counts_as_nothing() -> None:
    text = read_page(render_html(inconclusive_report())).text
    assert "compared, bit for bit" not in text
    assert "What was not proved, and why" in text
    assert text.count("the control differs on this probe") >= 2
    undecided = CheckResult(
        id="parity.config", status=Status.INCONCLUSIVE, reason="x", seconds=0.0, measurements={"tensors_compared": 7}
    )
    assert "7 tensors" not in read_page(render_html(make_report([undecided]))).text


def test_a_long_command_is_folded() -> None:
    long = "theworld-validate scan " + " ".join(f"--reference transformers:Class{i}" for i in range(40))
    html = render_html(make_report([passed("a.b")], command="theworld-validate scan", command_line=long))
    folded = html.split("and what was typed after it</summary><code>")[1].split("</code></details>")[0]
    assert re.sub(r"<[^>]*>", "", folded) == long
    assert folded.count('<span class="whole">--reference</span>') == 40  # no dash stands at a line's end


def test_subjects_say_once_what_they_share() -> None:
    page = read_page(render_html(make_report([passed("a.b")], subjects=SUBJECTS)))
    head = page.text.split("Environment")[0]
    assert head.count("checkpoint checkpoints/gemma") == 1
    assert "torch 2.13.0, transformers 5.23.0, diffusers 0.42.1, Python 3.11.7" in head


def test_subjects_that_are_the_same_have_a_row_with_a_name() -> None:
    alike = (SUBJECTS[0], replace(SUBJECTS[0], role="candidate"))
    html = render_html(make_report([passed("a.b")], subjects=alike))
    assert "<dt>reference and candidate</dt><dd>target" in html
    assert "<dt>candidate</dt>" not in html
    assert "<dt>both</dt>" in render_html(make_report([passed("a.b")], subjects=SUBJECTS))


def test_an_id_is_broken_between_its_words_and_a_version_nowhere() -> None:
    html = render_html(make_report([passed("releases.5.13.0rc1"), passed("a.layers.0.mlp")]))
    assert "<code>releases.<wbr>5.13.0rc1</code>" in html
    assert "<code>a.<wbr>layers.<wbr>0.<wbr>mlp</code>" in html


def test_what_is_the_same_for_all_claims_is_no_figure_of_them() -> None:
    """The probes are parity's, which claims run for themselves."""
    figure = f"<b>{len(PLAN.probes)}</b> probes"
    assert figure not in render_html(replace(claims_report(), plan=PLAN))
    assert figure in render_html(passing_report())


def test_releases_come_first_as_a_grid() -> None:
    page = read_page(render_html(releases_report()))
    assert "of 5 releases: 2 unsafe, 1 changed, 1 changed nothing, 5.0.0 is the first" in page.text
    assert page.ids.index("grids") < page.ids.index("findings")
    assert page.text.index("Each release against") < page.text.index("Who reads whose files")
    html = render_html(releases_report())
    assert '<td class="bad" data-title="text">changed</td>' in html
    assert '<td class="worst" data-title="read by 5.0.0">37 lost</td>' in html
    assert '<th scope="colgroup" colspan="2">read by</th>' in html
    assert '<th scope="row"><span class="phone dim">saved by </span>5.2.0' in html
    assert "1 of 1 whole" in page.text  # what it reads of itself is no file of another's
    assert "1 of 2: files of one release that another reads whole" in page.text
    assert '<td data-title="image"></td>' in html  # not judged
    assert '<td class="first" data-title="text">first</td>' in html  # compared with none, so equal to nothing
    assert html.count("compared with none</span>") == 1


def test_the_head_is_about_the_gravest_releases_and_names_each() -> None:
    report = releases_report()
    where = f"{LOST.location}, in 5.2.0, 5.3.0"
    head = read_page(render_html(report)).text.split("Each release against")[0]
    assert f"cause {LOST.cause} where {where}" in head.replace(" ,", ",")
    assert LOST.remedy in head
    assert CAUSE.cause not in head  # of the release that changed
    assert " ".join(read_terminal(report).split()).endswith(f"likeliest cause: {LOST.cause} where: {where}")
    assert f"- likeliest cause: {LOST.cause}\n- where: `{LOST.location}`, in 5.2.0, 5.3.0" in render_markdown(report)
    assert f'<property name="where" value="{where}" />' in render_junit(report)
    html = render_html(report)
    card = html[html.index('<section id="findings">') :].split("</article>")[0]
    assert f">#</a> 5.2.0, 5.3.0: {LOST.message.split()[0]}" in card
    assert "<code>releases.<wbr>5.2.0</code></a>, <a" in card  # a version is one word
    assert card.count("<code>releases.<wbr>5.3.0</code>") == 2  # beside the first one, and its own place


def test_the_page_says_what_paritys_seconds_are() -> None:
    def said(*seconds: float) -> str:
        checks = [replace(passed(f"parity.{n}"), seconds=took) for n, took in enumerate(seconds)]
        return read_page(render_html(make_report(checks))).text

    assert "what observing took, both sides added up" in said(0.0, 1.5, 1.0)
    assert "equal shares of what observing took" in said(0.0, 1.5, 1.5)
    assert "observing took" not in read_page(render_html(releases_report())).text


def test_a_claim_is_no_warning_of_the_model() -> None:
    html = render_html(claims_report())
    page = read_page(html)
    assert "warnings" not in page.ids
    assert page.text.index("refuted : 1") < page.text.index("explained : 1") < page.text.index("holds : 1")
    (anchor,) = [name for name in page.ids if name.startswith("finding-")]
    assert f'<article class="claim failed" id="{anchor}">' in html
    assert "Trainable parameters: 4.03B" in page.text  # whatever else the report says of it
    assert "theworld_validate/audits/claims.toml quotes them" in page.text
    assert "documented 4,430 parameters measured 4,430 parameters" in " ".join(page.text.split())


def test_a_claims_error_is_a_cause() -> None:
    report = claims_report()
    (finding,) = report.checks[0].findings
    failed = replace(report.checks[0], status=Status.FAILED, findings=(replace(finding, severity="error"),))
    assert "findings" in read_page(render_html(replace(report, checks=(failed,)))).ids


def test_parameters_are_bars_by_component() -> None:
    text = render_html(claims_report())
    assert 'aria-label="language_model: 3,880 parameters, frozen"' in text
    assert 'aria-label="world_projection: 120 parameters, 120 train (100.00 %)"' in text
