"""Check ids of probes: made of letters, digits and dashes, and no two alike."""

import pytest

from theworld_validate.parity.naming import probe_check_id


@pytest.mark.parametrize(
    ("probe", "check_id"),
    [
        ("text", "parity.probe.text"),
        ("left_padded_batch", "parity.probe.left_padded_batch"),
        ("a b/c.d", "parity.probe.a-b-c-d"),
        ("../x\n::error::", "parity.probe.x-error"),
        ("漢字", "parity.probe.probe"),
        ("", "parity.probe.probe"),
        ("x" * 100, "parity.probe." + "x" * 60),
    ],
)
def test_any_name_has_an_id(probe: str, check_id: str) -> None:
    assert probe_check_id(probe, set()) == check_id


def test_no_two_probes_have_one_id() -> None:
    taken: set[str] = set()
    made = [probe_check_id(name, taken) for name in ("a b", "a-b", "a/b", "a", "x" * 61, "x" * 62)]
    assert made[:4] == ["parity.probe.a-b", "parity.probe.a-b-2", "parity.probe.a-b-3", "parity.probe.a"]
    assert len(set(made)) == len(made)
    assert taken == set(made)
