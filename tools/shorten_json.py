"""Write JSON files anew as the product writes them: short, one line for a row; what they hold stays as it is.

    python tools/shorten_json.py FILE_OR_FOLDER ...

In: files, or folders that are searched for them. Out: the same files, and one line for each that became another text.
For measurements that were committed by hand, or made by an older release.
"""

import argparse
import json
from pathlib import Path

from theworld_validate.documents.compact_json import compact_json
from theworld_validate.documents.writing import replace_file


def shorten(path: Path) -> tuple[int, int]:
    """Write one file anew; its lines before and after.

    Raises:
        ValueError: if it is no JSON, or would not be the same values afterwards; it is then left as it is.
    """
    before = path.read_text(encoding="utf-8")
    try:
        values = json.loads(before, object_pairs_hook=_without_repeated_keys)
        after = compact_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; left as it is") from error
    if json.loads(after) != values:
        raise ValueError(f"{path}: would not hold the same values; left as it is")
    if after != before:
        replace_file(path, after)
    return before.count("\n"), after.count("\n")


def _without_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return dict(pairs)


def main() -> None:
    """Shorten what is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE_OR_FOLDER")
    for named in parser.parse_args().paths:
        for path in sorted(named.rglob("*.json")) if named.is_dir() else [named]:
            try:
                before, after = shorten(path)
            except (OSError, ValueError) as error:
                raise SystemExit(f"error: {error}") from error
            if before != after:
                print(f"{path}: {before:,} lines, now {after:,}")


if __name__ == "__main__":
    main()
