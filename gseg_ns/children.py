"""Commands that end with the process that started them, however that ends.

Run as a script, this file asks the system for it and then becomes the command; it imports nothing of the package.
"""

import os
import signal
import sys


def dependent(command: list[str]) -> list[str]:
    """A command line that runs `command` and is killed when this process is gone.

    Only Linux can do that; elsewhere it is the command itself, which then runs to its end.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", __file__, str(os.getpid()), *command]


def become(parent: int, command: list[str]) -> None:
    """Become a command that is killed when its parent dies. It does not return."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
