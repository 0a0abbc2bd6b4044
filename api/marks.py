"""Where a watch is, as the cursor that its reader comes back with; signed, so that nobody makes one up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from api.changes import MARGIN
from api.lists import SIGNATURE_BYTES

#: Older cursors get everything afresh. Cuts are shorter, and every sign of life brings a new cursor.
OLDEST = timedelta(hours=1)
LATELY_AT_MOST = 64  # lives in one cursor; what is left out may be sent a second time
GONE = 2**32 - 1  # instead of a version

_HEAD, _LIFE = struct.Struct(">Q?"), struct.Struct(">6sI")


@dataclass
class Mark:
    """Everything until `at` was shown; of what changed lately, so that it may be seen again: which version."""

    at: datetime
    whole: bool = True  # nothing of what changed lately was left out
    _lately: dict[bytes, tuple[int, datetime]] = field(default_factory=dict[bytes, tuple[int, datetime]])

    def saw(self, life: str, version: int, changed: datetime) -> None:
        """Note what was shown of a life: the version, or GONE."""
        tag = _tag(life)
        self._lately.pop(tag, None)
        self._lately[tag] = (version, changed)

    def shown(self, life: str) -> int | None:
        """What was shown of a life lately; None is nothing."""
        known = self._lately.get(_tag(life))
        return known[0] if known else None

    def advance(self, at: datetime) -> None:
        """Go on to a later moment; what cannot be seen again is forgotten."""
        self.at = max(self.at, at)
        late = self.at - MARGIN
        self._lately = {tag: seen for tag, seen in self._lately.items() if seen[1] >= late}

    def cursor(self, key: bytes, about: str) -> str:
        """As text; `about` is what is watched, for which alone it is good."""
        lives = list(self._lately.items())[-LATELY_AT_MOST:]
        body = _HEAD.pack(int(self.at.timestamp() * 1000), self.whole and len(lives) == len(self._lately))
        body += b"".join(_LIFE.pack(tag, min(version, GONE)) for tag, (version, _) in lives)
        return base64.urlsafe_b64encode(_signature(key, about, body) + body).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str, key: bytes, about: str, now: datetime) -> Mark | None:
        """The mark in a cursor; None for one that is too old, another watch's, or made up."""
        try:
            raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:  # also binascii.Error
            return None
        signature, body = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, _signature(key, about, body)):
            return None
        written, whole = _HEAD.unpack_from(body)
        at = datetime.fromtimestamp(written / 1000, UTC)
        if at < now - OLDEST:
            return None
        return cls(at, whole, {tag: (version, at) for tag, version in _LIFE.iter_unpack(body[_HEAD.size :])})


def _tag(life: str) -> bytes:
    return hashlib.sha256(life.encode()).digest()[:6]


def _signature(key: bytes, about: str, body: bytes) -> bytes:
    text = b"watch\0" + about.encode() + b"\0" + body
    return hmac.digest(key, text, "sha256")[:SIGNATURE_BYTES]
