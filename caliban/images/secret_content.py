r"""The contents of a file in the forms in which credentials are recognized.

A key may be UTF-16, escaped in a string of JSON or YAML (``\n``, ``\u002d``), or base64, as in manifests of secrets.
Compressed and encrypted files are not looked into.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

_CONTROL = re.compile(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_ESCAPE = re.compile(rb"""\\{1,8}(?:u00([0-9A-Fa-f]{2})|x([0-9A-Fa-f]{2})|([nrt"'/]))""")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}(?:\s+[A-Za-z0-9+/_-]{4,})*={0,2}")
_NO_BASE64 = re.compile(rb"[\s=]+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITE = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}

# Beginnings of DER: the version, then what follows it (RFC 5208, 5915, 8017, 7292), and the algorithm of RFC 5958.
_SEQUENCE, _INTEGER = b"\x30", b"\x02"
_VERSION_0, _VERSION_1, _VERSION_3 = (_INTEGER + b"\x01" + bytes([number]) for number in (0, 1, 3))
_OID_PKCS_5 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"
_OID_PKCS_12_PBE = b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01"
_OID_PKCS_7 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"


def is_text(start: bytes) -> bool:
    """Return whether a file that starts so is text: in any encoding that has ASCII characters, also UTF-16."""
    return _CONTROL.search(_ascii(start)) is None


def texts(content: bytes) -> Iterator[bytes]:
    """Yield a content as text, and without escapes."""
    plain = _ascii(content)
    yield plain
    if b"\\" in plain:
        yield _ESCAPE.sub(_unescape, plain)


def decoded(content: bytes) -> Iterator[bytes]:
    """Yield what the base64 parts of a content contain."""
    for match in _BASE64.finditer(_ascii(content)):
        part = _NO_BASE64.sub(b"", match.group()).translate(_URL_SAFE)
        if len(part) % 4 != 1:
            part += b"=" * (-len(part) % 4)
            yield base64.b64decode(part)


_PUBLIC_ONLY = re.compile(rb"\s{0,100}-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}(?:PUBLIC KEY|CERTIFICATE)-----")


def is_not_public(content: bytes) -> bool:
    """Return whether a content does not begin as a public key or a certificate does."""
    return _PUBLIC_ONLY.match(_ascii(content)) is None


def is_key_or_key_store(content: bytes) -> bool:
    """Return whether a binary content is a private key (DER) or a key store (PKCS #12, Java)."""
    if content.startswith((b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")):  # JKS and JCEKS
        return True
    body = _der_body(content)
    if body is None:
        return False
    if body.startswith(_VERSION_0):  # PKCS #8: an algorithm follows; PKCS #1: the modulus
        return body[3:4] in (_SEQUENCE, _INTEGER)
    if body.startswith(_VERSION_1):  # SEC 1: the key
        return body[3:4] in (b"\x04", _SEQUENCE)
    start = body[:32]
    is_encrypted_key = _OID_PKCS_5 in start or _OID_PKCS_12_PBE in start
    is_key_store = body.startswith(_VERSION_3) and _OID_PKCS_7 in start
    return (body.startswith(_SEQUENCE) and is_encrypted_key) or is_key_store


def _der_body(content: bytes) -> bytes | None:
    """Return the start of what a DER sequence contains that is the whole content; None for anything else."""
    if len(content) < 40 or not content.startswith(_SEQUENCE):
        return None
    count = max(content[1] - 0x80, 0)
    if content[1] == 0x80:  # BER without a length, as some programs write key stores
        return content[2:]
    length = int.from_bytes(content[2 : 2 + count], "big") if count else content[1]
    end = 2 + count + length
    return content[2 + count : end] if count <= 3 and content[end - 1 : end] and not content[end:].strip() else None


def _ascii(content: bytes) -> bytes:
    """Return ASCII text of any Unicode encoding as ASCII: UTF-16 and UTF-32 add zero bytes only."""
    return content.replace(b"\0", b"")


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match[1] or match[2]
    return bytes([int(digits, 16)]) if digits else _WHITE.get(match[3], match[3])
