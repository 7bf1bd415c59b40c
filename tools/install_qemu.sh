#!/bin/sh
# QEMU's user mode runs what the tests build for ARM. As root on Debian or Ubuntu, install it where it is missing.
set -u

command -v qemu-aarch64-static >/dev/null && command -v qemu-arm-static >/dev/null && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "No QEMU here: installing qemu-user-static for the ARM tests" >&2
    { apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-user-static; } \
        >/dev/null 2>&1 && exit 0
fi
echo "QEMU is missing, the ARM tests are skipped. On Debian or Ubuntu: sudo apt-get install qemu-user-static" >&2
