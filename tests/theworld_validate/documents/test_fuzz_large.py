"""Documents of hostile size: answered within 10 s of a processor and 1 GB, each in a process that may take no more."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bounded import MAX_SECONDS, Answer, read_bounded
from tests.mutations import MAX_LINE
from tests.theworld_validate.documents.test_fuzz_fingerprint import VALUES as FINGERPRINT
from tests.theworld_validate.documents.test_fuzz_report import PASSING, as_values
from theworld_validate.documents.fingerprint import MAX_FINGERPRINT_VALUES
from theworld_validate.documents.report import MAX_REPORT_VALUES

DOCUMENTS = "theworld_validate.documents."
JSON_READERS = (
    f"{DOCUMENTS}report:read_report",
    f"{DOCUMENTS}fingerprint:read_fingerprint",
    "theworld.checkpoints.weight_files:read_index",
    "theworld.checkpoints.bounded_files:read_json_object",
    "theworld.checkpoints.safetensors_header:read_safetensors_header",
)
TOML_READERS = ("theworld_validate.regression.limits:read_limits", "theworld_validate.memory.budget:read_budgets")
REPORT, M = as_values(PASSING), 1_000_000


def many(count: int, item: str) -> str:
    """Items with commas between them; "{i}" in one is its number."""
    return ",".join(item.replace("{i}", str(i)) for i in range(count))


def within(values: Mapping[str, Any], *path: str | int, text: str) -> str:
    """A document as JSON, with this text as the value at a path."""
    copy: Any = json.loads(json.dumps(values))
    place = copy
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = "@"
    return json.dumps(copy).replace('"@"', text)


def as_safetensors(header: str) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode()


def ask(tmp_path: Path, readers: tuple[str, ...], texts: Mapping[str, str | bytes]) -> Iterator[tuple[str, Answer]]:
    """Every reader's answer to every text, each within its bounds."""
    asked = []
    for name, text in texts.items():
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
        asked += [(reader, path) for reader in readers]
    for (reader, path), answer in zip(asked, read_bounded(asked), strict=True):
        assert answer.kind in ("read", "refused"), (reader, path.name, answer)
        assert answer.seconds < MAX_SECONDS, (reader, path.name, answer)
        assert len(answer.text) < MAX_LINE
        assert answer.text.isprintable()
        yield f"{reader.partition(':')[2]} {path.name}", answer


def test_large_json(tmp_path: Path) -> None:
    texts = {
        "deep_lists": "[" * 100_000,
        "deep_objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "digits": '{"a":' + "1" * 10_000_000 + "}",
        "keys": "{" + many(M, '"k{i}":{i}') + "}",
        "empty_lists": '{"a":[' + "[]," * 20_000_000 + "[]]}",
        "objects": '{"a":[' + '{"":0},' * 8_000_000 + "{}]}",
        "wide_text": '{"a":"😀' + "x" * 60_000_000 + '"}',
        "escapes": '{"a":"' + "\\u0001" * 10_000_000 + '"}',
    }
    for name, answer in ask(tmp_path, JSON_READERS, texts):
        assert answer.kind == "refused", name


def test_files_that_are_no_documents(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 300 << 20)
    asked = [
        (reader, tmp_path / name)
        for reader in (*JSON_READERS, *TOML_READERS)
        for name in ("fifo", "zero", "folder", "sparse")
    ]
    for (reader, path), answer in zip(asked, read_bounded(asked), strict=True):
        assert answer.kind == "refused", (reader, path.name, answer)
        assert str(path) in answer.text
        assert answer.seconds < 2


def test_as_much_as_a_report_may_hold(tmp_path: Path) -> None:
    """Right and wrong values by the hundred thousand: the first wrong one is named, and the others cost nothing."""
    count = MAX_REPORT_VALUES - 200

    def measured(text: str) -> str:
        return within(REPORT, "checks", 0, "measurements", text=text)

    texts = {
        "figures": measured("{" + many(count, '"k{i}":{i}') + "}"),
        "wrong_figures": measured("{" + many(count // 3, '"k{i}":[[]]') + "}"),
        "wrong_rows": measured('{"t":[' + many(count // 5, '{"a":1,"b":[[]]}') + "]}"),
        "wrong_findings": within(REPORT, "checks", 1, "findings", text="[" + many(count // 2, "{}") + "]"),
        "wrong_checks": within(REPORT, "checks", text="[" + many(count // 2, "{}") + "]"),
        "wrong_packages": within(REPORT, "environment", "packages", text="{" + many(count // 2, '"k{i}":[]') + "}"),
        "unknown": json.dumps(REPORT)[:-1] + "," + many(count, '"k{i}":{i}') + "}",
        "many_checks": within(
            REPORT, "checks", text="[" + many(count // 4, '{"id":"a{i}","status":"passed","seconds":0}') + "]"
        ),
        "too_many": measured("{" + many(MAX_REPORT_VALUES, '"k{i}":{i}') + "}"),
    }
    answers = dict(ask(tmp_path, JSON_READERS[:1], texts))
    read = {name.removeprefix("read_report ") for name, answer in answers.items() if answer.kind == "read"}
    assert read == {"figures", "many_checks"}
    for name, words in {
        "wrong_figures": "measurements.k0",
        "wrong_rows": "measurements.t",
        "wrong_findings": "findings[0].code",
        "wrong_checks": "checks[0].id",
        "wrong_packages": "packages.k0",
        "unknown": "field k0",
        "too_many": f"more than {MAX_REPORT_VALUES:,} values",
    }.items():
        assert words in answers[f"read_report {name}"].text


def test_as_much_as_a_fingerprint_may_hold(tmp_path: Path) -> None:
    count = MAX_FINGERPRINT_VALUES - 2000

    def observed(text: str, number: int) -> str:
        counted = {**FINGERPRINT, "num_observations": {**FINGERPRINT["num_observations"], "trace": number}}
        return within(counted, "sections", "trace", text="{" + text + "}")

    texts = {
        "observations": observed(many(count // 2, '"text/k{i}":{"value":1}'), count // 2),
        "wrong_observations": observed(many(count // 3, '"text/k{i}":{"value":[]}'), count // 3),
        "empty_observations": observed(many(count // 2, '"text/k{i}":{}'), count // 2),
        "wrong_failures": within(FINGERPRINT, "failures", text="[" + many(count // 2, "{}") + "]"),
        "unknown": json.dumps(FINGERPRINT)[:-1] + "," + many(count, '"k{i}":0') + "}",
    }
    answers = dict(ask(tmp_path, JSON_READERS[1:2], texts))
    assert answers["read_fingerprint observations"].kind == "read"
    for name, words in {
        "wrong_observations": "sections.trace.text/k0.value",
        "empty_observations": "nothing was observed",
        "wrong_failures": "failures[0].section",
        "unknown": "field k0",
    }.items():
        assert words in answers[f"read_fingerprint {name}"].text


def test_large_headers_and_indexes(tmp_path: Path) -> None:
    entry = '"model.layers.{i}.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    headers = {
        "whole": as_safetensors("{" + many(140_000, entry) + "}"),
        "too_many": as_safetensors("{" + many(200_000, entry) + "}"),
        "blank": as_safetensors("{" + " " * 90_000_000 + "}"),
        "huge_shape": as_safetensors(
            '{"a":{"dtype":"F32","shape":[' + many(900_000, "9" * 18) + '],"data_offsets":[0,0]}}'
        ),
        "cut": (1 << 40).to_bytes(8, "little") + b"{}",
    }
    kinds = {name: answer.kind for name, answer in ask(tmp_path, JSON_READERS[-1:], headers)}
    assert {name for name, kind in kinds.items() if kind == "read"} == {
        "read_safetensors_header whole",
        "read_safetensors_header blank",
    }
    indexes = {
        "index": '{"metadata":{},"weight_map":{' + many(900_000, '"layers.{i}.weight":"model-1.safetensors"') + "}}",
        "shards": '{"metadata":{},"weight_map":{' + many(900_000, '"layers.{i}.weight":"model-{i}.safetensors"') + "}}",
    }
    kinds = {name: answer.kind for name, answer in ask(tmp_path, JSON_READERS[2:3], indexes)}
    assert kinds == {"read_index index": "read", "read_index shards": "refused"}


@pytest.mark.parametrize("header", ["", "[memory]\n", "[[budget]]\n"])
def test_large_toml(tmp_path: Path, header: str) -> None:
    texts = {
        "dotted": "a" + ".a" * 500_000 + " = 1",
        "dotted_lines": "".join(f"a{'.a' * 62}.b{i} = 1\n" for i in range(7500)),
        "dotted_header": "[a" + ".a" * 500_000 + "]",
        "sections": "".join(f"[a{i}]\n" for i in range(100_000)),
        "arrays": "a = " + "[" * 400_000,
        "inline": "a = " + "{a = " * 150_000,
        "long_key": '"' + "x" * 900_000 + '" = 1',
        "hexadecimal": "growth = 0x" + "f" * 900_000,
        "decimal": "growth = " + "9" * 900_000,
        "exponent": "growth = 1e" + "9" * 900_000,
        "empty_budgets": "[[budget]]\n" * 80_000,
    }
    for name, answer in ask(tmp_path, TOML_READERS, {name: header + text for name, text in texts.items()}):
        assert answer.kind == "refused", name


def test_many_budgets(tmp_path: Path) -> None:
    budget = "[[budget]]\nbatch = {}\nmax_allocated_gb = 1\n"
    texts = {
        "different": "".join(budget.format(i + 1) for i in range(20_000)),
        "twice": "".join(budget.format(i + 1) for i in range(20_000)) + budget.format(1),
    }
    answers = dict(ask(tmp_path, TOML_READERS[1:], texts))
    assert answers["read_budgets different"].kind == "read"
    assert "budget 20001 is about the same configurations as budget 1" in answers["read_budgets twice"].text
