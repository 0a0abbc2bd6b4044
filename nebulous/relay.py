"""A connection to a port inside of a container, through a command in it: whichever tool of the image can make one."""

from __future__ import annotations

NO_TOOL = 97
#: Arguments: host, port. Copies standard input to the connection, and the connection to standard output.
_SCRIPT = r"""
has() { command -v "$1" >/dev/null 2>&1; }
if has socat; then
  case "$1" in *:*) host="[$1]";; *) host="$1";; esac
  exec socat -t 86400 - "TCP:$host:$2"
fi
if has python3; then exec python3 -c '
import os, socket, sys, threading
line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    for data in iter(lambda: os.read(0, 65536), b""):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
for data in iter(lambda: line.recv(65536), b""):
    while data:
        data = data[os.write(1, data):]
' "$1" "$2"; fi
if has nc; then exec nc "$1" "$2"; fi
if has bash; then exec bash -c '
exec 3<>"/dev/tcp/$0/$1" || exit 1
cat <&0 >&3 & cat <&3
kill $! 2>/dev/null' "$1" "$2"; fi
exit 97
"""
MISSING = "nothing in the image can make a connection: it needs python3, nc, socat or bash"


def command(host: str, port: int) -> list[str]:
    """The command that connects to a port, as seen from inside of the container."""
    return ["/bin/sh", "-c", _SCRIPT, "relay", host, str(port)]
