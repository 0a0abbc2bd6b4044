#!/usr/bin/env bash
# What the tests with a real Docker Engine need on Debian or Ubuntu; does nothing where it is there already.
# As root. The tests start an Engine of their own, so none has to be running.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need dockerd docker.io
need containerd containerd
need runc runc
need docker-init tini
need ip iproute2
need iptables iptables
need unshare util-linux
need /usr/sbin/sshd openssh-server
need ssh-keygen openssh-client
need busybox busybox-static
# A busybox that needs shared libraries does not run in the tests' image.
if command -v busybox >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then
    missing+=(busybox-static)
fi
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing for the Docker tests: ${missing[*]}; install them, or set NEBU_TEST_DOCKER_HOST" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# A package that starts a daemon on installation must not: the host's own network stays as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}"
