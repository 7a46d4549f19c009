#!/bin/sh
# Install, start the three services, wait until they are healthy, offer the walk-through. Ctrl-C stops them.
#   ./start-demo.sh          start and run until Ctrl-C
#   ./start-demo.sh --demo   play the walk-through and exit, with 0 only if every phase passed
#   --record DIRECTORY       with either: save a picture of the live page after each phase (needs playwright and Chromium)
set -eu
cd "$(dirname "$0")"

case "$*" in
"" | --demo | --record\ * | --demo\ --record\ *) ;;
*) sed -n '2,5s/^# *//p' "$(basename "$0")" >&2 && exit 2 ;;
esac

scripts/build.sh demo
exec "${CB_VENV:-.venv}/bin/python" -m scripts up "$@"
