"""The bounded reader: regular files of bounded size, strict JSON and TOML, one clean line for everything else."""

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from theworld.checkpoints.bounded_files import (
    check_readable_path,
    is_folder,
    is_regular_file,
    parse_json,
    read_bytes,
    read_json_object,
    read_toml_object,
)
from theworld.checkpoints.error_text import MAX_LINE, file_error, one_line, shown_name

HOSTILE = [
    "\x1b[31mred\x1b]0;title\x07",
    "a\nb\r::error::PWN",
    "a\u202eb\x9b31m",
    "\ud800",
    "\uffff\u2028\u200b",
    "\x00",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_any_origin_becomes_one_printable_line(text: str) -> None:
    assert one_line(text).isprintable()
    assert shown_name(text).isprintable()
    assert str(file_error(text, text, "fix it")).isprintable()


def test_text_is_cut() -> None:
    assert one_line("a" * 10_000, 50) == "a" * 47 + "..."
    assert len(one_line("\x00" * 10_000, 50)) == 50
    assert len(shown_name("a" * 10_000)) == 120
    assert len(str(file_error("f", "a" * 10_000, "fix"))) < MAX_LINE + 20
    assert one_line("héllo ▁ 世界") == "héllo ▁ 世界"


def test_what_is_no_regular_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    for name, message in {
        "fifo": "not a regular file",
        "zero": "not a regular file",
        "folder": "not a regular file",
        "circle": "a circle of symbolic links",
        "absent": "missing",
        "a" * 300: "its name is too long",
        "folder/fifo/x": "missing",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            read_bytes(tmp_path / name, max_bytes=10)
        assert str(caught.value).startswith(str(tmp_path / name)[:200])
    for name in ("fifo", "zero", "folder"):
        with pytest.raises(ValueError, match="not a regular file"):
            is_regular_file(tmp_path / name)
    assert not is_regular_file(tmp_path / "absent")


def test_links_to_regular_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text('{"a": 1}')
    (tmp_path / "config.json").symlink_to(tmp_path / "blob")
    assert read_json_object(tmp_path / "config.json") == {"a": 1}
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a symbolic link to a file that is missing"):
        is_regular_file(tmp_path / "gone.json")


def test_size_is_bounded_even_where_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 11)
    assert read_bytes(path, max_bytes=11) == b"x" * 11
    with pytest.raises(ValueError, match="11 bytes, and at most 10 are read"):
        read_bytes(path, max_bytes=10)
    with pytest.raises(ValueError, match="more than 0 bytes"):
        read_bytes(Path("/proc/self/status"), max_bytes=0)  # says that it has 0 bytes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ('{"a": 1, "a": 2}', "key a appears twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1e999}', "1e999 is out of range"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ("[" * 100 + "]" * 100, "nested deeper than 64 levels"),
        ("[" * 200_000 + "]" * 200_000, "nested deeper than 64 levels"),
        ("1" * 10_000, "Exceeds the limit"),
        ("", "Expecting value"),
    ],
)
def test_json_is_strict(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 400


def test_json_that_transformers_writes_is_read() -> None:
    assert parse_json('{"a": {"__float__": "Infinity"}, "b": "\\ud83d\\ude00"}')["b"] == "😀"


def test_json_of_another_kind_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for data, message in {
        b"[1]": "holds a list, expected a JSON object",
        b"\xff\xfe": "not UTF-8 text (byte 0)",
        b"version https://git-lfs.github.com/spec/v1\noid": "a git-lfs pointer",
    }.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
            read_json_object(path)


@pytest.mark.parametrize("text", ["a = nan", "a = [1, inf]", "a = ", "a = 1\na = 2", "a = " + "[" * 100 + "]" * 100])
def test_toml_is_strict(tmp_path: Path, text: str) -> None:
    path = tmp_path / "budget.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not valid TOML (")):
        read_toml_object(path)
    path.write_text('[memory]\ngrowth = 0.5\nname = "x"')
    assert read_toml_object(path) == {"memory": {"growth": 0.5, "name": "x"}}


def test_denied_files_and_folders_are_one_line(tmp_path: Path) -> None:
    denied = PermissionError(13, "Permission denied")
    with mock.patch("os.open", side_effect=denied), pytest.raises(ValueError, match="permission denied"):
        read_bytes(tmp_path / "config.json", max_bytes=1)
    with mock.patch("os.scandir", side_effect=denied), pytest.raises(ValueError, match=r"permission denied"):
        is_folder(tmp_path)
    with mock.patch("pathlib.Path.stat", side_effect=denied), pytest.raises(ValueError, match="permission denied"):
        is_regular_file(tmp_path / "config.json")


def test_paths_that_no_library_opens_are_one_line() -> None:
    with pytest.raises(ValueError, match="the path is not UTF-8") as caught:
        check_readable_path(os.fsdecode(b"\xff\xfe-ck"))
    assert str(caught.value).isprintable()
    with pytest.raises(ValueError, match="null character"):
        check_readable_path("a\0b")
    check_readable_path("/nowhere/at/all")


def test_a_deleted_working_directory_is_named(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "from theworld.checkpoints.bounded_files import check_readable_path\n"
        "check_readable_path('/somewhere')\n"
        "try: check_readable_path('ck/gemma')\n"
        "except ValueError as error: print(error)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gone")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout == "ck/gemma: the working directory was deleted; change to one that exists\n"
