"""Boards inside QEMU: their kernel and file system, made from Debian's packages, and the machine itself."""
