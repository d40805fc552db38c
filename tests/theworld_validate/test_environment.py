"""What a machine is said to be."""

import os
import subprocess
import sys

from theworld_validate.environment import usable_cores

_SCRIPT = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from theworld_validate.environment import usable_cores
print(usable_cores())
"""


def test_cores_that_a_container_keeps_from_a_process_are_not_counted() -> None:
    alone = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert alone.stdout == "1\n"
    assert usable_cores() == len(os.sched_getaffinity(0))
