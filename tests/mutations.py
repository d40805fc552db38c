"""Documents damaged in every way that a writer, a disk, an editor or an enemy damages them.

In: a good document, as bytes or as JSON values. Out: hypothesis strategies of damaged bytes, and what a reader may
answer: a value, or one line.
"""

import copy
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T")
NUM_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))  # the nox session `fuzz` asks for 2,000
MAX_LINE = 2500  # characters of the longest line that an error may be
SETTINGS = settings(
    max_examples=NUM_EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

# What stands in JSON where a good value was; as text, for half of it no writer writes.
HOSTILE_JSON = (
    "null", "true", "false", "0", "1", "-1", "2", "1.0", "0.5", "-0.0", "1e-320", "1e308", "-1e308", "1e999", "-1e999",
    "NaN", "Infinity", "-Infinity", str(2**31), str(2**63), str(-(2**63) - 1), "1" + "0" * 400, "9" * 4000,
    "1" + "0" * 5000, '""', '" "', '"x"', '"0"', '"1e999"', '"NaN"', '"passed"', '"failed"', '"../x"', '"/etc/passwd"',
    '"a\\nb"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\u202e\\u001b[31m"', '"' + "x" * 5000 + '"', '"世界"',
    "[]", "{}", "[[]]", "[{}]", "[null]", "[0]", '[""]', '{"": 0}', '{"a": {}}', '{"a": 1, "a": 2}', '{"__class__": 1}',
    "[" * 70 + "]" * 70, "[" * 2000 + "]" * 2000, '{"a":' * 70 + "1" + "}" * 70,
)  # fmt: skip
HOSTILE_BYTES = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf0\x9f\x98\x80", b"\r\n", b"\n", b"\t", b" ",
    b"\x1b[31m", b"\xe2\x80\xae", b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"{", b"}", b"[", b"]", b":",
    b",", b".", b"=", b"#", b"-", b"1e999", b"NaN", b"-Infinity", b"null", b"true", b"0", b"9" * 400, b"9" * 5000,
    b"0x" + b"f" * 9000, b"[" * 100, b"[" * 3000, b'{"a":' * 100, b"a." * 300, b"x" * 3000, b"//", b"/* */", b'""',
    b"[[budget]]\n", b"[memory]\n", b"inf", b"nan", b"1979-05-27T07:32:00Z", b'"""', b"'''",
)  # fmt: skip
HOSTILE_NAMES = (
    "", "x", "__class__", "__proto__", "../x", "a\nb", "\x00", "\u202e", "schema", "0", "x" * 5000, "a.b/c"
)  # fmt: skip


def refused_or(read: Callable[[], T], *errors: type[Exception]) -> T | None:
    """What a reader answers; None if it refuses in one printable line. Whatever else it raises, it raises here."""
    try:
        return read()
    except errors as error:
        line = str(error)
    assert line.strip()
    assert line.isprintable(), repr(line[:500])
    assert len(line) <= MAX_LINE, len(line)
    return None


def is_refused(read: Callable[[], object], *errors: type[Exception]) -> bool:
    """Whether a reader, or a check that returns nothing, refuses."""
    return refused_or(lambda: (read(),), *errors) is None


@st.composite
def damaged_bytes(draw: st.DrawFn, original: bytes) -> bytes:
    """One to three damages of bytes: flipped, cut, inserted, overwritten, repeated and swapped slices."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 3))):
        kind, place, other, length = draw(
            st.tuples(
                st.sampled_from(("flip", "cut", "end", "insert", "over", "repeat", "swap", "insert", "over")),
                st.integers(0, max(len(data) - 1, 0)),
                st.integers(0, max(len(data) - 1, 0)),
                st.integers(1, 40),
            )
        )
        if not data:
            kind = "insert"
        if kind == "flip":
            data[place] ^= 1 << (length % 8)
        elif kind == "cut":
            del data[place : place + length]
        elif kind == "end":
            del data[place:]
        elif kind in ("insert", "over"):
            piece = draw(st.sampled_from(HOSTILE_BYTES))
            data[place : place + (len(piece) if kind == "over" and len(piece) < 50 else 0)] = piece
        elif kind == "repeat":
            data[place:place] = data[other : other + length] * draw(st.sampled_from((1, 2, 50)))
        else:
            first, second = sorted((place, other))
            length = min(length, second - first, len(data) - second)
            one, two = bytes(data[first : first + length]), bytes(data[second : second + length])
            data[first : first + length], data[second : second + length] = two, one
    return bytes(data)


_RAW, _TWICE = "@raw{}@", "@twice@"
_RAW_TEXTS = {f'"{_RAW.format(number)}"': text for number, text in enumerate(HOSTILE_JSON)}
_Path = tuple[Any, ...]


def _places(value: Any, path: _Path = ()) -> list[_Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [] if not path else [path]
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def _at(values: Any, path: _Path) -> Any:
    for part in path:
        values = values[part]
    return values


@st.composite
def damaged_values(draw: st.DrawFn, original: Any) -> bytes:
    """One to three damages of a JSON document's structure, as JSON text.

    Keys deleted, renamed, repeated and added; values replaced, wrapped, swapped, moved and copied into each other.
    """
    values = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        if places := _places(values):
            path, other = draw(st.tuples(st.sampled_from(places), st.sampled_from(places)))
            damage = draw(st.sampled_from(_DAMAGES))
            damage(values, path, other, draw(st.integers(0, 10_000)))
    text = json.dumps(values, indent=draw(st.sampled_from((None, 1))), ensure_ascii=draw(st.booleans()))
    text = text.replace(_TWICE, "")
    for marker, raw in _RAW_TEXTS.items():
        text = text.replace(marker, raw)
    return text.encode("utf-8", "surrogatepass")


# Damages: of the value at `path`, with the one at `other`; `number` chooses.


def _replace(values: Any, path: _Path, _: _Path, number: int) -> None:
    _at(values, path[:-1])[path[-1]] = _RAW.format(number % len(HOSTILE_JSON))


def _delete(values: Any, path: _Path, _: _Path, number: int) -> None:
    del _at(values, path[:-1])[path[-1]]


def _rename(values: Any, path: _Path, _: _Path, number: int) -> None:
    holder = _at(values, path[:-1])
    if isinstance(holder, dict):
        names = (*HOSTILE_NAMES, *holder)
        renamed = {names[number % len(names)] if key == path[-1] else key: value for key, value in holder.items()}
        holder.clear()
        holder.update(renamed)


def _repeat(values: Any, path: _Path, _: _Path, number: int) -> None:
    holder, key = _at(values, path[:-1]), path[-1]
    if isinstance(holder, dict):
        holder[f"{key}{_TWICE}"] = copy.deepcopy(holder[key])
    else:
        holder.insert(key, copy.deepcopy(holder[key]))


def _copy(values: Any, path: _Path, other: _Path, number: int) -> None:
    _at(values, path[:-1])[path[-1]] = copy.deepcopy(_at(values, other))


def _swap(values: Any, path: _Path, other: _Path, number: int) -> None:
    if path[: len(other)] != other and other[: len(path)] != path:
        one, two = _at(values, path), _at(values, other)
        _at(values, path[:-1])[path[-1]], _at(values, other[:-1])[other[-1]] = two, one


def _wrap(values: Any, path: _Path, _: _Path, number: int) -> None:
    holder, key = _at(values, path[:-1]), path[-1]
    holder[key] = ([holder[key]], {"x": holder[key]}, [holder[key], copy.deepcopy(holder[key])])[number % 3]


def _add(values: Any, path: _Path, _: _Path, number: int) -> None:
    holder, value = _at(values, path[:-1]), copy.deepcopy(_at(values, path))
    if isinstance(holder, dict):
        holder[HOSTILE_NAMES[number % len(HOSTILE_NAMES)]] = value
    else:
        holder.append(value)


def _approach(values: Any, path: _Path, _: _Path, number: int) -> None:
    """Put a value there that is easily taken for the one that was."""
    value = _at(values, path)
    near: tuple[Any, ...] = (0, "", [], {}, False, "null", 0.0, [None])
    if isinstance(value, bool):
        near = (int(value), not value, str(value), float(value))
    elif isinstance(value, (int, float)):
        near = (float(value), int(value), value + 1, -value, str(value), bool(value), value * 2, value / 2)
    elif isinstance(value, str):
        near = (value[:-1], value[1:], value + " ", value * 2, value.upper(), value[::-1], [value], {value: value})
    elif isinstance(value, list):
        near = (
            value[::-1],
            value[:-1],
            value[1:],
            value * 2,
            copy.deepcopy(value) * 20,
            [],
            None,
            {str(i): v for i, v in enumerate(value)},
        )
    elif isinstance(value, dict):
        pairs = list(value.items())
        near = (
            dict(pairs[::-1]),
            dict(pairs[:-1]),
            dict(pairs[1:]),
            {},
            None,
            list(value),
            list(value.values()),
            pairs,
        )
    _at(values, path[:-1])[path[-1]] = near[number % len(near)]


_DAMAGES = (
    _replace,
    _replace,
    _replace,
    _delete,
    _delete,
    _rename,
    _repeat,
    _copy,
    _copy,
    _swap,
    _wrap,
    _add,
    _approach,
)


def damaged(values: Any) -> st.SearchStrategy[bytes]:
    """A JSON document, damaged in its bytes or in its structure."""
    return st.one_of(damaged_bytes(json.dumps(values, indent=1).encode()), damaged_values(values))
