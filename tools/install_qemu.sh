#!/bin/sh
# QEMU's user mode runs what the tests build for ARM, its system mode the emulated boards. As root on
# Debian or Ubuntu, install them where they are missing. mkfs.ext4 makes the disks of emulated boards.
set -u

command -v qemu-aarch64-static >/dev/null && command -v qemu-arm-static >/dev/null &&
    command -v qemu-system-aarch64 >/dev/null && [ -n "$(PATH="$PATH:/usr/sbin:/sbin" command -v mkfs.ext4)" ] && exit 0

packages="qemu-user-static qemu-system-arm e2fsprogs"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "No QEMU or no mkfs.ext4 here: installing $packages for the ARM tests" >&2
    # shellcheck disable=SC2086
    { apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } \
        >/dev/null 2>&1 && exit 0
fi
echo "QEMU or mkfs.ext4 is missing, tests that need them are skipped. On Debian or Ubuntu: sudo apt-get install $packages" >&2
