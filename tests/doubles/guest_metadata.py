"""The metadata endpoint of a guest, run inside its network: 169.254.169.254 as EC2 (IMDSv2 only) and GCE have it.

What it answers stands in a JSON file, by path; anything else is not found.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "a-token-of-this-machine"


class Metadata(BaseHTTPRequestHandler):
    answers: Path

    def do_PUT(self) -> None:
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not ttl.isdecimal():
            self._say(400, "")
        else:
            self._say(200, TOKEN)

    def do_GET(self) -> None:
        googles = self.path.startswith("/computeMetadata/")
        if googles and self.headers.get("Metadata-Flavor") != "Google":
            self._say(403, "Missing required header: Metadata-Flavor")
        elif not googles and self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._say(401, "")
        else:
            told = json.loads(self.answers.read_text()).get(self.path.partition("?")[0])
            self._say(404 if told is None else 200, told or "not found")

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    Metadata.answers = Path(sys.argv[1])
    ThreadingHTTPServer(("169.254.169.254", 80), Metadata).serve_forever()
