"""`theworld-validate --help` against the terminal libraries that it needs, whole processes: `pytest benchmarks`.

Goal: half a second, of which most is not ours; torch alone would be ten times the libraries.
"""

import statistics
import subprocess
import sys
import time
from typing import Any

GOAL_SECONDS = 0.5
LIBRARIES = "import typer, typer.rich_utils, rich.console, rich.table, rich.panel"


def test_help_over_its_libraries(benchmark: Any) -> None:
    pairs = []

    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - started

    def pair() -> None:
        pairs.append((seconds("-m", "theworld_validate", "--help"), seconds("-c", LIBRARIES)))

    benchmark.pedantic(pair, rounds=10, warmup_rounds=1)
    ours = statistics.median(help_ for help_, _ in pairs)
    ratio = statistics.median(help_ / libraries for help_, libraries in pairs)
    benchmark.extra_info.update(seconds=ours, over_libraries=ratio, goal_seconds=GOAL_SECONDS)
    print(f"\n--help: {ours:.2f} s (goal {GOAL_SECONDS}), {ratio:.2f} times its libraries")
