#!/bin/sh
# The guard of a rented machine: ends it when nobody needs it any more, and hands the cloud's notice to the command.
#
# Contact is a line that the worker writes to $RUN/contact each minute. Without any,
#   a command that runs goes on until its timeout, or, if it has none, until the lease is over;
#   one that has ended is kept NEBU_KEEP_S, so that somebody may still read how;
#   and a machine whose command never began is given up after NEBU_IDLE_S.
# Time is the machine's uptime: its clock may be set.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
RUN=/run/nebulous
# shellcheck source=/dev/null
. /var/lib/nebulous/settings
mkdir -p "$RUN"
id nebulous >/dev/null 2>&1 && chown nebulous: "$RUN"
echo $$ >"$RUN/guard.pid"
# After a reboot $RUN is empty, and not every cloud runs the boot script again.
[ ! -e /var/lib/nebulous/ready ] || [ -e "$RUN/stage" ] || echo ready >"$RUN/stage"

uptime_s() { cut -d. -f1 /proc/uptime; }

say() { echo "$(date -u +%FT%TZ) $*"; }

get() { curl -sf -m 2 --noproxy '*' "$@" 2>/dev/null; }

look() { # none, running or ended; as before where the Engine does not answer
    if found=$(timeout -k 5 "$NEBU_ANSWER_S" docker inspect --type container -f '{{.State.Status}}' "$NEBU_KEY" 2>&1); then
        case $found in
            running | paused | restarting) state=running ;;
            created) state=none ;;
            *) state=ended ;;
        esac
    else
        case $found in
            *"o such container"*) state=none ;;
        esac
    fi
    if [ "$state" = running ] && [ ! -e "$RUN/started" ]; then
        echo "$now" >"$RUN/started"
    fi
}

end_command() { # $1: seconds of grace
    say "stopping the command, grace $1 s"
    timeout -k 5 $(($1 + NEBU_ANSWER_S)) docker stop -t "$1" "$NEBU_KEY" >/dev/null 2>&1 # it may hang
}

power_off() {
    say "switching off: $*"
    end_command "$NEBU_GRACE_S"
    shutdown -h now || poweroff -f || echo o >/proc/sysrq-trigger
    sleep 60
}

notice() { # how the cloud says that it takes the machine back; prints nothing otherwise
    case $NEBU_CLOUD in
        ec2)
            [ -n "$token" ] || return 1
            get -H "X-aws-ec2-metadata-token: $token" "$NEBU_METADATA/latest/meta-data/spot/instance-action"
            ;;
        gce) get -H 'Metadata-Flavor: Google' "$NEBU_METADATA/computeMetadata/v1/instance/preempted" | grep TRUE ;;
        *) return 1 ;;
    esac
}

renew_token() { # of IMDSv2; it lives six hours
    [ "$NEBU_CLOUD" = ec2 ] || return 0
    [ -z "$token" ] || [ $((now - token_at)) -ge 3600 ] || return 0
    token=$(get -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 21600' "$NEBU_METADATA/latest/api/token")
    token_at=$now
}

heed() { # $1: the notice. At most half of the time that is left goes to the command
    left=$NEBU_NOTICE_S
    at=$(echo "$1" | sed -n 's/.*"time" *: *"\([^"]*\)".*/\1/p')
    if [ -n "$at" ] && until_s=$(date -u -d "$at" +%s 2>/dev/null); then
        left=$((until_s - $(date +%s)))
    fi
    [ "$left" -gt 0 ] || left=0
    grace=$((left / 2))
    [ "$grace" -lt "$NEBU_GRACE_S" ] || grace=$NEBU_GRACE_S
    say "the cloud takes this machine back: $1"
    echo "$1" >"$RUN/notice"
    # Which run of the command it is that ends by this: what had ended before has ended by itself.
    run=$(timeout -k 5 "$NEBU_ANSWER_S" docker inspect --type container -f '{{.State.Running}} {{.State.StartedAt}}' "$NEBU_KEY" 2>/dev/null)
    case $run in
        "true "*)
            echo "${run#true }" >"$RUN/preempted"
            end_command "$grace"
            ;;
    esac
}

judge() {
    quiet=$((now - contact))
    case $state in
        running)
            begun=$(cat "$RUN/started")
            if [ "$NEBU_TIMEOUT_S" -eq 0 ]; then
                [ "$quiet" -lt "$NEBU_LEASE_S" ] || power_off "nobody has asked for $quiet s"
            elif [ $((now - begun)) -ge "$NEBU_TIMEOUT_S" ] && [ "$quiet" -ge "$NEBU_QUIET_S" ]; then
                end_command "$NEBU_GRACE_S"
                # An Engine that is dead or hangs never says that it ended.
                [ $((now - begun)) -lt $((NEBU_TIMEOUT_S + NEBU_KEEP_S)) ] || power_off "its time is long over"
            fi
            ;;
        ended) [ "$quiet" -lt "$NEBU_KEEP_S" ] || power_off "the command has ended, and nobody has asked for $quiet s" ;;
        *) [ "$quiet" -lt "$NEBU_IDLE_S" ] || power_off "no command, and nobody has asked for $quiet s" ;;
    esac
}

state=none token='' token_at=0 noticed='' said=''
now=$(uptime_s)
contact=$now
looked=$((now - NEBU_LOOK_S))
say "on guard"
while :; do
    now=$(uptime_s)
    heard=''
    [ ! -e "$RUN/contact" ] || read -r heard <"$RUN/contact"
    if [ "$heard" != "$said" ]; then
        said=$heard contact=$now
    fi
    if [ -z "$noticed" ]; then
        renew_token
        if told=$(notice) && [ -n "$told" ]; then
            noticed=yes
            heed "$told"
        fi
    fi
    if [ $((now - looked)) -ge "$NEBU_LOOK_S" ]; then
        looked=$now
        look
        judge
    fi
    sleep "$NEBU_TICK_S"
done
