#!/bin/sh
# Create .venv (or $CB_VENV) and install the locked dependencies of the platform (demo) or of the tests and checks (dev).
# Does nothing if they are installed already.
set -eu
cd "$(dirname "$0")/.."
venv=${CB_VENV:-.venv}

case "${1-}" in
demo) lock=requirements.lock ;;
dev) lock=requirements-dev.lock ;;
*) echo "usage: scripts/build.sh demo|dev" >&2 && exit 2 ;;
esac

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if "$python" -c "$new_enough" 2>/dev/null; then
            echo "$python" && return
        fi
    done
    echo "Python 3.11 or later is needed; ${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1 || true)." >&2
    echo "Install one from https://www.python.org/downloads/ or name it: PYTHON=/path/to/python3.11" >&2
    exit 1
}

usable() {
    "$venv/bin/python" -c "$new_enough" 2>/dev/null && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

# The copy of the lock file is written last, so that an interrupted installation is repeated.
if cmp -s "$lock" "$venv/$lock" && "$venv/bin/python" -c "$new_enough" 2>/dev/null; then
    exit 0
fi
if ! usable; then
    python=$(find_python)
    echo "Creating $venv with $("$python" --version)"
    [ ! -e "$venv/pyvenv.cfg" ] || rm -rf "$venv"
    if ! "$python" -m venv "$venv"; then
        echo "This Python cannot create virtual environments; on Debian and Ubuntu install python3-venv." >&2
        exit 1
    fi
fi
echo "Installing $lock"
pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps --requirement "$@"
}
# uv installs in seconds, for which pip needs a minute. Where uv does not run or finds no index, as it does not read the
# settings of pip, pip does all.
uv_pin=$(sed -n '/^uv==/,/# via/p' requirements-dev.lock)
if ! { [ -x "$venv/bin/uv" ] || echo "$uv_pin" | pip /dev/stdin; } ||
    ! "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes --no-deps --requirement "$lock"; then
    pip "$lock"
fi
cp "$lock" "$venv/$lock"
