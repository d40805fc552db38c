"""A candidate put to `parity`, and its report read back."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.theworld_validate.command_line import invoke
from theworld_validate.compare.contradictions import contradictions
from theworld_validate.documents.report import parse_report
from theworld_validate.results import CheckResult, Finding, Report, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the command said."""

    exit_code: int
    report: Report

    @property
    def checks(self) -> dict[str, CheckResult]:
        return {check.id.removeprefix("parity."): check for check in self.report.checks}

    @property
    def failed(self) -> set[str]:
        return {name for name, check in self.checks.items() if check.status is Status.FAILED}

    @property
    def findings(self) -> list[Finding]:
        """Of checks that failed, in the report's order."""
        return [f for check in self.report.checks if check.status is Status.FAILED for f in check.findings]

    @property
    def roots(self) -> list[str]:
        """The keys of what nothing else explains, the likeliest first; warnings are none."""
        keys = [f.key for f in self.findings if f.explained_by is None and f.severity == "error"]
        return list(dict.fromkeys(keys))

    @property
    def root(self) -> Finding:
        """The first of them."""
        return next(finding for finding in self.findings if finding.key == self.roots[0])

    def passed(self, *names: str) -> bool:
        """Whether these checks were kept, and passed."""
        return all(self.checks[name].status is Status.PASSED for name in names)


def ask(model: Path, candidate: str, *options: object, probes: tuple[str, ...] = ("text",)) -> Answer:
    """Compare a candidate; no sentence of the report contradicts another."""
    asked = [word for probe in probes for word in ("--probe", probe)]
    result = invoke("parity", "--model", model, "--candidate", candidate, "--json", *asked, *options)
    assert result.stdout, result.stderr
    report = parse_report(json.loads(result.stdout), source="stdout")
    assert not [check.id for check in report.checks if check.status is Status.ERROR], result.stdout
    answer = Answer(exit_code=result.exit_code, report=report)
    assert contradictions(answer.findings) == ()
    return answer
