#!/bin/sh
# The SSH tests start OpenSSH's server themselves, on 127.0.0.1. Its package also starts one that is open to the
# network, so it is installed as root on Debian or Ubuntu only where new services are forbidden to start (containers).
set -u

PATH=$PATH:/usr/sbin:/usr/local/sbin
command -v sshd >/dev/null && exit 0

starts_forbidden() {
    [ -x /usr/sbin/policy-rc.d ] || return 1
    /usr/sbin/policy-rc.d ssh start >/dev/null 2>&1
    [ $? -eq 101 ]
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && starts_forbidden; then
    echo "No sshd here: installing openssh-server for the SSH tests" >&2
    { apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server; } \
        >/dev/null 2>&1 && exit 0
fi
echo "sshd is missing, the tests against OpenSSH are skipped. On Debian or Ubuntu: sudo apt-get install openssh-server" >&2
echo "(that also starts a server which others can reach: sudo systemctl disable --now ssh)" >&2
