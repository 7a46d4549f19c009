"""The project that code belongs to, and the ledger that it uses by default."""

import os
import sys
import zlib
from collections.abc import Mapping
from types import FrameType
from typing import Any

from .layout import PROGRAM_CELLS

#: files of a directory that holds a project, even if it is a package as well
_MARKERS = ("pyproject.toml", "setup.py", "setup.cfg", "manage.py", "requirements.txt", "Pipfile", ".git", ".hg")
#: directories that belong to the project around them
_PARTS = ("src", "bin", "scripts", "jobs", "tools", "notebooks")
_INSTALLED = ("site-packages", "dist-packages")
_SUFFIXES = (".py", ".pyc", ".pyz", ".zip")
#: characters of a project's name in that of its ledger
_LONGEST = PROGRAM_CELLS * 8 - 9
_LIBRARY = os.path.dirname(os.__file__) + os.sep  # as in the file names of its code, which are not resolved


def ledger_name(root: str) -> str:
    """Return a name for the ledger of a project: the name of its root, and a digest of the path."""
    name, suffix = os.path.splitext(os.path.basename(root))
    shown = name if suffix in _SUFFIXES else name + suffix
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "_" for each in shown)
    digest = zlib.crc32(os.fsencode(os.path.normcase(root)))
    return f"{plain.strip('._-')[:_LONGEST] or 'project'}-{digest:08x}"


def project_root(namespace: Mapping[str, Any]) -> str:
    """Return the directory of a project, the installed package, or the archive or program that contains it all.

    Code is installed below site-packages; anywhere else, its project is the directory out of all packages. Code without
    a file, as in a shell or a notebook, is part of the project in the working directory. Links are resolved,
    and the releases of a project in `releases/` are one.

    Args:
        namespace: Globals of a module of the project.
    """
    if getattr(sys, "frozen", False):  # each start may unpack its modules in another directory
        return os.path.realpath(sys.executable)
    file = namespace.get("__file__")
    try:
        path = os.path.realpath(file if isinstance(file, str) and file else os.getcwd())
    except OSError:  # the working directory was removed
        path = os.path.realpath(sys.executable)
    return _installed(path) or _released(_outside(path, str(namespace.get("__package__") or "")))


def calling_namespace() -> Mapping[str, Any]:
    """Return the globals of the nearest module that has called this library, without those of the standard library.

    Without one they are those of the main module, as in a shell or in the process of a pool.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the module inspect does the same, and its import takes long
    library = __name__.partition(".")[0]
    while frame is not None:
        names = frame.f_globals
        ours = str(names.get("__name__")).partition(".")[0] == library
        if "__file__" in names and not ours and not _standard(frame.f_code.co_filename):
            return names
        if names.get("__name__") == "__main__":
            break
        frame = frame.f_back
    return vars(sys.modules.get("__main__", sys))


def _standard(file: str) -> bool:
    inside = file.startswith(_LIBRARY) and not any(each in file for each in _INSTALLED)
    return inside or file.startswith("<frozen ")


def _installed(path: str) -> str | None:
    """Return the outermost package or module below site-packages; None for code that is not installed."""
    directories = path.split(os.sep)
    below = max((number for number, each in enumerate(directories) if each in _INSTALLED), default=len(directories))
    for end in range(below + 2, len(directories) + 1):
        root = os.sep.join(directories[:end])
        if end == len(directories) or _holds(root, "__init__.py"):  # else a part of a namespace
            return root
    return None


def _outside(path: str, package: str) -> str:
    """Return the directory around the packages of a file or directory, or the archive that contains it."""
    directory = path
    while not os.path.isdir(directory) or (directory == path and os.path.isfile(path)):
        if directory != path and os.path.isfile(directory):
            return directory
        directory, before = os.path.dirname(directory), directory
        if directory == before:
            return directory
    for name in reversed(package.split(".")):
        if name and os.path.basename(directory) == name:
            directory = os.path.dirname(directory)
    while _holds(directory, "__init__.py") and not _holds(directory, *_MARKERS):
        directory = os.path.dirname(directory)
    parent, name = os.path.split(directory)
    return parent if name in _PARTS and _holds(parent, *_MARKERS) else directory


def _released(root: str) -> str:
    parent, name = os.path.split(os.path.dirname(root))
    return parent if name == "releases" and parent != os.sep else root


def _holds(directory: str, *names: str) -> bool:
    return any(os.path.exists(f"{directory}{os.sep}{name}") for name in names)
