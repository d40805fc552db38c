"""A pytest plugin: parity as a fixture and a marker for a user's own suite. It does nothing unless it is asked.

In: `--theworld-gate`, a test marked `theworld_gate`, or one that takes the fixture `theworld_parity`. Out: the test
fails with the findings. Without the option, such tests are skipped and nothing heavy is imported.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

_OPTION = "--theworld-gate"
_REASON = f"a gate on a whole model; give {_OPTION} to run it"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("theworld", "gates of theworld-validate")
    group.addoption(_OPTION, action="store_true", help="Run the tests that compare whole models.")
    group.addoption("--theworld-model", metavar="DIR|ID", help="A checkpoint. Default: a tiny Gemma 3 that is made.")
    group.addoption("--theworld-device", metavar="NAME", default="cpu", help="cpu, cuda or cuda:N.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"theworld_gate: {_REASON}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip gates, unless they are asked for."""
    if config.getoption(_OPTION):
        return
    for item in items:
        if item.get_closest_marker("theworld_gate") or "theworld_parity" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=_REASON))


@pytest.fixture
def theworld_parity(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """A function that compares a candidate with its base class, and fails the test unless every check passes.

    Its arguments: `candidate` ("module:class"; for Gemma 3 "theworld:TheWorld" by default), `reference`, `model` and
    `device` (defaults from the options), `dtype`, `attn`, `seed`, `probes`, `timeout_seconds`. Each side has a process
    of its own. It returns the check results.
    """

    def compare(
        candidate: str | None = None,
        *,
        reference: str | None = None,
        model: str | None = None,
        device: str | None = None,
        dtype: str = "bfloat16",
        attn: str | None = None,
        seed: int = 0,
        probes: Sequence[str] = (),
        timeout_seconds: float = 1800.0,
    ) -> list[Any]:
        from theworld_validate.results import InputError, Status, combine
        from theworld_validate.suite import compare_targets
        from theworld_validate.synthetic_checkpoints import prepare_tiny
        from theworld_validate.target import Target
        from theworld_validate.workers.run import Run

        run = Run(timeout_seconds=timeout_seconds)
        try:
            target = Target(
                checkpoint=model or request.config.getoption("--theworld-model") or prepare_tiny(run)[0],
                device=device or request.config.getoption("--theworld-device"),
                dtype=dtype,
                attn=attn,
                seed=seed,
            )
            checks = list(compare_targets(target, run, reference=reference, candidate=candidate, probe_names=probes))
        except InputError as error:
            pytest.fail(str(error), pytrace=False)
        verdict = combine([check.status for check in checks])
        if verdict is not Status.PASSED:
            pytest.fail(f"parity {verdict}\n{_describe(checks)}", pytrace=False)
        return checks

    return compare


def _describe(checks: Any) -> str:
    lines = []
    for check in checks:
        if check.status == "passed":
            continue
        lines.append(f"{check.id}: {check.status}{f' ({check.reason})' if check.reason else ''}")
        lines += [
            f"  {finding.message}" + (f"\n    remedy: {finding.remedy}" if finding.remedy else "")
            for finding in check.findings
        ]
    return "\n".join(lines)
