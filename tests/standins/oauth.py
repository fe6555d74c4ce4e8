"""A service account with a key of its own, and the token endpoint that its key file names.

Source: https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_AUDIENCE = "https://oauth2.googleapis.com/token"
"""What google-auth puts into its assertions whatever the key file's token_uri is."""
_LONGEST_S = 3600
_SKEW_S = 300


@dataclass(frozen=True)
class TokenAnswer:
    """Status and JSON body of the token endpoint's answer."""

    status: int
    body: dict[str, object]


class ServiceAccount:
    """A service account of one project. Its tokens are good for ``token_life_s`` seconds."""

    def __init__(self, project: str, token_life_s: int = _LONGEST_S) -> None:
        self.project = project
        self.email = f"standin@{project}.iam.gserviceaccount.com"
        self.token_life_s = token_life_s
        self.refusal: tuple[str, str] | None = None
        self._key = _private_key(self.email)
        self._tokens: dict[str, float] = {}

    def write_key_file(self, path: Path, token_uri: str) -> Path:
        """A key file as the Google Cloud console gives it, but for its ``token_uri``."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        content = {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": "0123456789abcdef",
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": "100000000000000000000",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
        }
        path.write_text(json.dumps(content, indent=2))
        path.chmod(0o600)
        return path

    def answer(self, form: bytes, token_uri: str) -> TokenAnswer:
        """A token for a signed assertion, or why there is none."""
        fields = {name: values[-1] for name, values in parse_qs(form.decode()).items()}
        if fields.get("grant_type") != _GRANT:
            return _refusal("unsupported_grant_type", "Invalid grant_type: " + fields.get("grant_type", ""))
        if self.refusal is not None:
            return _refusal(*self.refusal)
        problem = self._problem(fields.get("assertion", ""), token_uri)
        if problem:
            return _refusal("invalid_grant", problem)
        token = "standin." + secrets.token_urlsafe(24)
        self._tokens[token] = time.time() + self.token_life_s
        return TokenAnswer(200, {"access_token": token, "expires_in": self.token_life_s, "token_type": "Bearer"})

    def accepts(self, token: str) -> bool:
        """Whether a token was issued here and still holds."""
        return self._tokens.get(token, 0) > time.time()

    def revoke_tokens(self) -> None:
        """Let no token issued so far hold any longer."""
        self._tokens.clear()

    def _problem(self, assertion: str, token_uri: str) -> str | None:
        try:
            head, body, signature = assertion.split(".")
            header, claims = json.loads(_decoded(head)), json.loads(_decoded(body))
            self._key.public_key().verify(
                _decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return "Invalid JWT Signature."
        except (ValueError, binascii.Error):
            return "Bad Request"
        now = time.time()
        if header.get("alg") != "RS256":
            return "Invalid JWT: Only RS256 is accepted."
        if claims.get("iss") != self.email:
            return "Invalid grant: account not found"
        if claims.get("aud") not in (_AUDIENCE, token_uri):
            return "Invalid JWT: Failed audience check."
        if claims["exp"] < now or claims["iat"] > now + _SKEW_S or claims["exp"] - claims["iat"] > _LONGEST_S:
            return (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )
        return None if claims.get("scope") else "Invalid OAuth scope or ID token audience provided."


@cache
def _private_key(email: str) -> rsa.RSAPrivateKey:
    """Return the account's key, generated once per process. It is short: generating and loading keys takes CPU time."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def _refusal(error: str, description: str) -> TokenAnswer:
    return TokenAnswer(400, {"error": error, "error_description": description})


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
