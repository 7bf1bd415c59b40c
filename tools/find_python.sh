#!/bin/sh
# Print the first Python 3.11 to 3.13 that can make a virtual environment.
# $PYTHON, where set, is the only candidate. As root on Debian or Ubuntu, install python3-venv where only that is missing.
set -eu

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_usable() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 /usr/bin/python3}; do
        if usable "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

find_usable && exit 0

if [ -z "${PYTHON:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "No Python 3.11 to 3.13 with venv here: installing python3-venv" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >&2
    find_usable && exit 0
fi

cat >&2 <<MESSAGE
edgeprune needs Python 3.11, 3.12 or 3.13 with venv and ensurepip; tried: ${PYTHON:-python3.11 python3.12 python3.13 python3}.
On Debian or Ubuntu:  sudo apt-get install python3-venv
Elsewhere:            make setup PYTHON=/path/to/python3.12
MESSAGE
exit 5
