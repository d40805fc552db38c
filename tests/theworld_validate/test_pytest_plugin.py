"""The pytest plugin, in a user's own suite: skipped unless asked; a faulty candidate fails with its findings."""

import pytest

from theworld.synthetic import SyntheticCheckpoint

pytest_plugins = ["pytester"]

SUITE = """
import pytest

def test_parity(theworld_parity):
    assert len(theworld_parity()) > 10

def test_a_fault(theworld_parity):
    theworld_parity("tests.theworld_validate.faulty_candidates:train_mode")

def test_no_such_class(theworld_parity):
    theworld_parity("theworld:NoSuchModel")

@pytest.mark.theworld_gate
def test_marked():
    pass

def test_plain():
    pass
"""


def test_gates_are_skipped_unless_asked(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("-rs", "--strict-markers")
    result.assert_outcomes(passed=1, skipped=4)
    result.stdout.fnmatch_lines(["*give --theworld-gate to run it*"])


def test_gates_run_when_asked(pytester: pytest.Pytester, tiny: SyntheticCheckpoint) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("--theworld-gate", "--theworld-model", str(tiny.gemma))
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(["*parity failed*", "*training is True, expected False*", "*no*NoSuchModel*"])
