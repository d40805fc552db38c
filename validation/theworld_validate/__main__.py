"""`theworld-validate`, and `python -m theworld_validate`: from the first moment on, an interrupt is one line.

In: nothing. Out: the command's exit code. Nothing heavy is imported before the signals are answered for.
"""

import os
import signal
from typing import Any


def main() -> None:
    """Entry point of the command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # a shell has it ignored in the background
            signal.signal(number, _leave)
    from theworld_validate.cli import main as run

    run()


def _leave(_signal: int, _frame: Any) -> None:
    """End the process: nothing is to be kept before and after a command's own work, which answers for itself."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
