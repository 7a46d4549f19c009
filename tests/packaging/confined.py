"""Processes confined as in a container or by systemd: a read-only file system and an unprivileged user.

The interpreter, its packages and the platform's files are in /opt/trading, as on a deployed host. A mount namespace
provides this; creating one needs root, and is not possible in most containers.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

#: user id of the services
USER = 10001
PYTHON = "/opt/trading/.venv/bin/python"
_SCRIPT = f"""
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /mnt/python /mnt/trading/.venv/bin "/mnt/trading/.venv/lib/$NAME/site-packages"
mount --bind "$BASE" /mnt/python
mount --bind "$SITE" "/mnt/trading/.venv/lib/$NAME/site-packages"
ln -s "/opt/python/bin/$NAME" /mnt/trading/.venv/bin/python
echo "home = /opt/python/bin" >/mnt/trading/.venv/pyvenv.cfg
cp -r "$IMAGE"/. /mnt/trading
mkdir /mnt/bound
for place in $BOUND; do
    mkdir -p "/mnt/bound$place"
    mount --bind "$HOME_OF_BOUND$place" "/mnt/bound$place"
done
mount -t tmpfs tmpfs /dev/shm
mount --rbind /mnt /opt
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
for place in $BOUND; do
    mkdir -p "$place"
    mount --rbind "/opt/bound$place" "$place"
done
for place in $FRESH; do
    mount -t tmpfs -o mode=1777 tmpfs "$place"
done
for place in / /opt /run /var/lib /mnt; do
    mount -o remount,ro,bind "$place"
done
cd /opt/trading
umask "$MASK"
exec setpriv --reuid {USER} --regid {USER} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


@cache
def possible() -> bool:
    """Return True if this user can create such a namespace and has the programs for it."""
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    tried = ["unshare", "--mount", "mount", "--make-rprivate", "/"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def start(
    words: Sequence[str],
    *,
    image: Path,
    bound: Path,
    places: Sequence[str],
    environ: Mapping[str, str],
    log: Path,
    fresh: Sequence[str] = (),
    umask: str = "022",
) -> "subprocess.Popen[bytes]":
    """Start a program with only the given environment, and return its process.

    `places`, below /run or /var/lib, are bound to the directories of the same names in `bound`. The directories in
    `fresh` are empty and writable. Everything else is read-only.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = {
        "NAME": name,
        "BASE": sys.base_prefix,
        "SITE": sysconfig.get_path("purelib"),
        "IMAGE": str(image),
        "BOUND": " ".join(places),
        "HOME_OF_BOUND": str(bound),
        "FRESH": " ".join(fresh),
        "MASK": umask,
        "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": "/opt/python/lib",  # the mounted library of the interpreter
    }
    with log.open("ab") as stream:
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-euc", _SCRIPT, "sh", *words],
            env=own | dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
