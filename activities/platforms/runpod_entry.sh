# The first process of a pod, in POSIX sh, with no more than what a small image has. It comes in a variable, because
# nothing in a variable needs quoting, and RunPod offers no other way to bring a file. See runpod_pod.py.
#
# RunPod starts the container again whenever it ends, and a changed variable makes a new container in the same pod.
# So: without a run it waits; with one it runs the command once, says how that ended, and stays.
umask 077
dir=/tmp/.nebulous
child=
asked=

has() { command -v "$1" >/dev/null 2>&1; }

# The platform reads these lines in the pod's log; the empty line before ends one that the command left open.
say() { printf '\nnebulous-%s: %s %s %s\n' "$1" "$NEBULOUS_RUN" "$2" "$(date -u +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || echo -)"; }

serve_ssh() {
  ssh=no
  [ -n "$NEBULOUS_SSH_HOST" ] && [ -x /usr/sbin/sshd ] || return 0
  mkdir -p /run/sshd 2>/dev/null
  printf '%s\n' "$NEBULOUS_SSH_HOST" >"$dir/host"
  printf '%s\n' "$NEBULOUS_SSH_KEY" >"$dir/authorized"
  /usr/sbin/sshd -f /dev/null -h "$dir/host" -p 22 -E "$dir/sshd.log" -o AuthorizedKeysFile="$dir/authorized" \
    -o StrictModes=no -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o MaxSessions=100 \
    -o PermitRootLogin=prohibit-password -o PidFile=none && ssh=ssh
}

# With the key that RunPod gives to each pod for itself.
end_pod() {
  where="${NEBULOUS_API:-https://api.runpod.io}/v2/pods/$RUNPOD_POD_ID/action"
  what='{"action":"terminate"}'
  if has curl; then
    printf 'header = "Authorization: Bearer %s"\n' "$RUNPOD_API_KEY" |
      curl -fsS -m 30 -K - -H 'Content-Type: application/json' -d "$what" "$where" >/dev/null && return
  elif has python3; then
    python3 -c 'import os, sys, urllib.request as u
head = {"Authorization": "Bearer " + os.environ["RUNPOD_API_KEY"], "Content-Type": "application/json"}
u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), head), timeout=30)' "$where" "$what" && return
  elif has wget; then
    wget -q -O /dev/null --header "Authorization: Bearer $RUNPOD_API_KEY" --header 'Content-Type: application/json' \
      --post-data "$what" "$where" && return
  fi
  say unended "nothing in the image could end the pod"
}

# Wait to be told something; after so many seconds nobody is there any more to end this pod.
stay() {
  trap 'exit 0' TERM INT
  while :; do
    sleep "$1" &
    wait $!
    end_pod
  done
}

# Asked by RunPod (the pod is to be stopped or changed), by whoever came by SSH, or by the timer.
end_command() {
  asked=1
  [ -n "$child" ] || return
  grace=${NEBULOUS_GRACE:-30}
  [ -r "$dir/stop" ] && read -r grace <"$dir/stop"
  kill -s TERM "$child" 2>/dev/null
  (sleep "$grace"; kill -s KILL "$child") >/dev/null 2>&1 &
}

ooms() {
  [ -r /sys/fs/cgroup/memory.events ] || return
  while read -r what count; do [ "$what" = oom_kill ] && echo "$count"; done </sys/fs/cgroup/memory.events
}

begin() {
  trap end_command TERM INT
  before=$(ooms)
  printf '%s\n' "$NEBULOUS_RUN" >"$dir/run"
  printf '%s' "$PWD" >"$dir/cwd"
  say start "$ssh"
  (
    trap - TERM INT
    unset NEBULOUS_ENTRY NEBULOUS_COMMAND NEBULOUS_SSH_HOST NEBULOUS_SSH_KEY NEBULOUS_API NEBULOUS_GRACE
    unset NEBULOUS_LIMIT NEBULOUS_WAIT NEBULOUS_LINGER NEBULOUS_STOP
    umask 022
    export -p >"$dir/env"
    exec "$@"
  ) &
  child=$!
  [ -z "$asked" ] || end_command
  [ -z "$NEBULOUS_LIMIT" ] || (sleep "$NEBULOUS_LIMIT" && : >"$dir/late" && kill -s TERM $$) &
  while :; do
    wait "$child"
    code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  trap '' TERM INT
  kill -s KILL -1 2>/dev/null # what it left behind: as in any container, nothing outlives it
  echo "$code" >"$dir/exit"
  [ "$(ooms)" = "$before" ] || code="$code-oom"
  if [ -n "$asked" ] && [ ! -e "$dir/stop" ] && [ ! -e "$dir/late" ]; then
    say told "$code" # by RunPod: for us, which the next container knows, or for itself, and then this is no outcome
    exit 0
  fi
  say exit "$code"
}

mkdir -p "$dir"
was=
[ -r "$dir/run" ] && read -r was <"$dir/run"
serve_ssh
if [ -z "$NEBULOUS_RUN" ]; then
  say ready "$ssh"
  stay "${NEBULOUS_WAIT:-3600}"
elif [ "$NEBULOUS_STOP" = "$NEBULOUS_RUN" ]; then
  say stopped 137 # unless the container before this one had the time to say more
elif [ "$was" = "$NEBULOUS_RUN" ]; then
  code=137 # RunPod started this container again: the command ran, and does not run twice
  [ -r "$dir/exit" ] && read -r code <"$dir/exit"
  say exit "$code"
else
  eval "set -- $NEBULOUS_COMMAND"
  if has "$1"; then
    rm -f "$dir/stop" "$dir/late" "$dir/exit"
    begin "$@"
    serve_ssh
  else
    say refused 127
  fi
fi
stay "${NEBULOUS_LINGER:-86400}"
