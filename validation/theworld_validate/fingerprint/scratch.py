"""A scratch folder where it is fast: in memory if there is room, else where temporary files go.

In: how many bytes are to be written. Out: a folder that is gone when the block ends; one that a killed process left
behind is removed by the next.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")
_PREFIX = "theworld-round-trip-"
_SECONDS_TO_LOCK = 60  # a new folder is locked by then
_TIMES = 2.5  # the files, and what is loaded from them, with some to spare


@contextmanager
def scratch_folder(num_bytes: int) -> Iterator[Path]:
    """A new folder for files of about `num_bytes`."""
    _remove_left_behind()
    parent = _IN_MEMORY if _has_room(num_bytes) else None
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when the process ends, however it ends
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind() -> None:
    """Remove folders of processes that are gone: what lies in memory would stay there."""
    for parent in {_IN_MEMORY, Path(tempfile.gettempdir())}:
        for folder in parent.glob(f"{_PREFIX}*"):
            try:
                state = folder.stat()
                if state.st_uid != os.getuid() or time.time() - state.st_ctime < _SECONDS_TO_LOCK:
                    continue
                lock = os.open(folder, os.O_RDONLY)
            except OSError:  # gone meanwhile
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:  # in use
                continue
            finally:
                os.close(lock)


def _has_room(num_bytes: int) -> bool:
    try:
        free = shutil.disk_usage(_IN_MEMORY).free
    except OSError:
        return False
    return os.access(_IN_MEMORY, os.W_OK) and min(free, _free_memory()) > _TIMES * num_bytes


def _free_memory() -> int:
    """Bytes that this process may still take: of the machine, and of its control group where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 0
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        for group in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")):
            try:
                rest = int((group / limit).read_text(encoding="ascii")) - int(
                    (group / used).read_text(encoding="ascii")
                )
            except (OSError, ValueError):  # no such file, or "max"
                continue
            free = min(free, rest)
    return free
