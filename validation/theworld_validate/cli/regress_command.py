"""The command that compares reports: regress."""

from pathlib import Path
from typing import Annotated, Any

import typer

from theworld_validate.cli.app import app
from theworld_validate.cli.options import shared_options
from theworld_validate.cli.session import Options, run_checks


@app.command()
@shared_options(loads=False)
def regress(
    options: Options,
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="A report, or a folder with one for each environment.")
    ],
    current: Annotated[Path, typer.Argument(metavar="CURRENT", help="A report's file or folder.")],
    budget: Annotated[
        Path | None, typer.Option("--budget", metavar="FILE", help="TOML: [memory] growth, [time] growth, min_seconds.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Show the difference, and take CURRENT as BASELINE.")
    ] = False,
) -> int:
    """Compare a report with a baseline: nothing may stop passing, appear, vanish, or cost more than its budget."""

    def body(_progress: Any) -> Any:
        from theworld_validate.regression.baselines import find_baseline, read_limits, read_report, write_baseline
        from theworld_validate.regression.reports import compare_reports
        from theworld_validate.results import CheckResult, Status

        limits, new = read_limits(budget), read_report(current)
        found = None if update and not baseline.exists() else find_baseline(baseline, new["environment"])
        checks: tuple[CheckResult, ...] = ()
        if found is not None:
            checks = compare_reports(read_report(found), new, limits)
        elif not update:
            reason = "no baseline of this environment; --update makes it from the current report"
            checks = (CheckResult(id="regress.environment", status=Status.INCONCLUSIVE, reason=reason, seconds=0.0),)
        if update:
            written = str(write_baseline(baseline, new))
            taken = {"baseline": written, "compared": len(new["checks"])}
            reason = f"taken as the baseline: {written}"
            done = CheckResult(
                id="regress.update", status=Status.PASSED, reason=reason, seconds=0.0, measurements=taken
            )
            return (done, *(_as_shown(check) for check in checks))
        return checks

    return run_checks("theworld-validate regress", options, body)


def _as_shown(check: Any) -> Any:
    """A difference that was taken on purpose: shown, and no failure."""
    from dataclasses import replace

    from theworld_validate.results import Status

    findings = tuple(replace(finding, severity="warning") for finding in check.findings)
    return replace(check, status=Status.SKIPPED, reason=check.reason or "shown: the baseline is new", findings=findings)
