"""A service account of Google's, with a real key: who signs with it is let in, until it is revoked."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

EMAIL = "nebulous@{project}.iam.gserviceaccount.com"
SKEW_S = 300
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class ServiceAccount:
    def __init__(self, project: str) -> None:
        self.email = EMAIL.format(project=project)
        self.project = project
        self.revoked = False
        self.clock_s = 0.0  # what Google's clock is ahead of ours
        self._tokens: set[str] = set()

    def write_key(self, path: Path, url: str) -> Path:
        """The JSON that an operator downloads."""
        pem = PRIVATE.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key = {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": "k1",
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": "1",
            "token_uri": f"{url}/token",
        }
        path.write_text(json.dumps(key))
        path.chmod(0o600)
        return path

    def knows(self, authorization: str) -> bool:
        """Whether a request's bearer is this account: by a token of ours, or one that it signed itself."""
        token = authorization.removeprefix("Bearer ")
        return not self.revoked and (token in self._tokens or self._signed(token))

    def exchange(self, assertion: str) -> tuple[int, dict[str, Any]]:
        """The token endpoint."""
        if self.revoked:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        if not self._signed(assertion):
            words = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            return 400, {"error": "invalid_grant", "error_description": words}
        token = secrets.token_hex()
        self._tokens.add(token)
        return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}

    def _signed(self, token: str) -> bool:
        options = {"verify_aud": False, "verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(token, PRIVATE.public_key(), ["RS256"], options=options)
        except jwt.InvalidTokenError:
            return False
        now = time.time() + self.clock_s
        return claims["iss"] == self.email and claims["iat"] - SKEW_S <= now <= claims["exp"] + SKEW_S
