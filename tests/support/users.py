"""Functions run as another user, who may not be able to start this interpreter."""

import getpass
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import TextIO


def start_as_nobody(work: Callable[[], int], stdout: TextIO, stderr: TextIO, seconds: int = 60) -> int:
    """Start a function in a forked child with another user, and return its process id. Only root may."""
    getpass.getuser()  # imports what that user may not be able to read
    if (pid := os.fork()) == 0:
        signal.alarm(seconds)
        code = 1
        try:
            sys.stdout, sys.stderr = stdout, stderr
            os.setgroups([])
            os.setgid(65_534)
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            code = work()
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def as_nobody(work: Callable[[], int]) -> "subprocess.CompletedProcess[str]":
    """Run a function in a forked child with another user. Only root may."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        pid = start_as_nobody(work, stdout, stderr)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess([], code, stdout.read(), stderr.read())
