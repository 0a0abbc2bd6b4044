# shellcheck shell=sh
# The boot script of a rented machine, run as root by its cloud; above stand the public key of the worker, and the lines
# that write the guard and its settings. It lets the worker in and leaves all that concerns the command to it. It may
# run again at every boot.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
HOME_OF=/var/lib/nebulous
RUN=/run/nebulous

stage() { # what the worker shows as long as it is not `ready`
    echo "$*" >"$RUN/stage.new" && mv "$RUN/stage.new" "$RUN/stage"
    console "nebulous: $*"
}

console() {
    for each in /dev/console /dev/ttyS0; do
        [ -w "$each" ] && echo "$*" >>"$each"
    done
    echo "$*"
}

with_systemd() { [ -d /run/systemd/system ]; }

make_user() { # whom the worker logs in as: no password, and a password that is locked would keep keys out too
    id nebulous >/dev/null 2>&1 || useradd --create-home --shell /bin/sh nebulous || return 1
    usermod -p '*' nebulous
    home=$(getent passwd nebulous | cut -d: -f6)
    mkdir -p "$home/.ssh"
    echo "restrict,port-forwarding $NEBU_PUBLIC_KEY" >"$home/.ssh/authorized_keys"
    chmod 700 "$home/.ssh"
    chmod 600 "$home/.ssh/authorized_keys"
    chown -R nebulous: "$home/.ssh"
    chown nebulous: "$RUN"
}

announce() { # over a channel of the cloud's own, so that nobody in between can show another key
    key=/etc/ssh/ssh_host_ed25519_key.pub
    [ -e "$key" ] || ssh-keygen -A >/dev/null 2>&1
    console "nebulous-host-key: $(cut -d' ' -f1,2 <"$key")"
}

begin_guard() {
    if with_systemd; then
        cat >/etc/systemd/system/nebulous-guard.service <<UNIT
[Unit]
Description=Nebulous: ends this machine when nobody needs it any more
[Service]
ExecStart=/bin/sh $HOME_OF/guard
Restart=always
RestartSec=5
[Install]
WantedBy=multi-user.target
UNIT
        mkdir -p /etc/systemd/system/docker.service.d # its own unit may let an Engine that hangs hold up the shutdown
        printf '[Service]\nTimeoutStopSec=60\n' >/etc/systemd/system/docker.service.d/nebulous.conf
        systemctl daemon-reload
        systemctl enable --now --no-block nebulous-guard.service
    elif ! { [ -e "$RUN/guard.pid" ] && kill -0 "$(cat "$RUN/guard.pid")" 2>/dev/null; }; then
        setsid sh "$HOME_OF/guard" </dev/null >>/var/log/nebulous-guard.log 2>&1 &
    fi
}

leave_packages_alone() { # a driver that is updated under the running kernel takes the GPUs away
    with_systemd || return 0
    systemctl disable --now --no-block apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service 2>/dev/null
}

bring_docker() {
    if ! command -v docker >/dev/null; then
        stage "installing Docker"
        if command -v apt-get >/dev/null; then
            export DEBIAN_FRONTEND=noninteractive
            again apt-get update -q && again apt-get install -y -q docker.io || return 1
        elif command -v dnf >/dev/null; then
            again dnf install -y -q docker || return 1
        else
            return 1
        fi
    fi
    with_systemd && systemctl enable --now docker.service
    getent group docker >/dev/null || groupadd --system docker
    usermod -aG docker nebulous
    stage "waiting for Docker"
    tries=0
    until docker version >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || return 1
        sleep 2
    done
}

again() { # another program may hold the package database, and mirrors have bad minutes
    for pause in 5 15 30 60 0; do
        "$@" && return 0
        sleep "$pause"
    done
    return 1
}

has_gpu() { grep -qi '^0x10de' /sys/bus/pci/devices/*/vendor 2>/dev/null; }

bring_gpus() { # some images build the driver, or load it, after the first boot
    has_gpu || return 0
    stage "waiting for the NVIDIA driver"
    tries=0
    until nvidia-smi -L >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || return 1
        sleep 2
    done
    docker info --format '{{json .Runtimes}}' | grep -q nvidia && return 0
    command -v nvidia-ctk >/dev/null || return 1
    nvidia-ctk runtime configure --runtime=docker && systemctl restart docker.service
}

mkdir -p "$HOME_OF" "$RUN"
stage "booting"
begin_guard
announce # before anybody is let in
make_user || { stage "failed: the user nebulous cannot be made"; exit 1; }
leave_packages_alone
bring_docker || { stage "failed: this machine's image has no Docker, and it cannot be installed"; exit 1; }
bring_gpus || { stage "failed: the NVIDIA driver, or its container toolkit, does not come up"; exit 1; }
touch "$HOME_OF/ready" # for the guard, after a reboot
stage "ready"
