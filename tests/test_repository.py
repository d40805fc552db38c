"""What the repository holds: little that a machine wrote, and of a report nothing but its JSON."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_GENERATED_LINES = 25_000
GENERATED = ("reports/**", "*.json", "*.svg", "*.lock", "*.csv", "*.jsonl", "constraints.txt")
KEPT_IN_REPORTS = {".json", ".md"}


def committed(*patterns: str) -> list[Path]:
    """The files that git would take along: tracked, or new and not ignored. Where there is no git, all that match."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    ended = subprocess.run([*command, *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        names = [name for name in ended.stdout.split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for pattern in patterns for path in ROOT.rglob(pattern.replace("/**", "/**/*"))]
        # Not of an environment or a cache, nor what the bare command wrote.
        names = [str(path) for path in found if path.parts[0][0] != "." and path.parts[:2] != ("reports", "latest")]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def num_lines(paths: list[Path]) -> dict[str, int]:
    return {str(path.relative_to(ROOT)): path.read_bytes().count(b"\n") for path in paths}


def test_few_lines_are_generated() -> None:
    lines = num_lines(committed(*GENERATED))
    assert sum(lines.values()) > 1_000  # they were found
    most = sorted(lines.items(), key=lambda item: -item[1])[:5]
    assert sum(lines.values()) < MAX_GENERATED_LINES, f"python tools/shorten_json.py reports; the longest are {most}"


def test_reports_are_json_and_readmes() -> None:
    assert {path.suffix for path in committed("reports/**")} == KEPT_IN_REPORTS
