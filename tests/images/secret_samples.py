"""Keys and other credentials in a project, for the tests of the search for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from caliban.images.context import BuildContext, collect
from caliban.platforms.registry import secret_files

from .helpers import Project


@cache
def private_key(kind: str = "rsa") -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else ed25519.Ed25519PrivateKey.generate()


def serialized(
    encoding: Encoding,
    form: PrivateFormat = PrivateFormat.PKCS8,
    kind: str = "rsa",
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return private_key(kind).private_bytes(encoding, form, encryption or NoEncryption())


def gather(project: Project, **environ: str) -> BuildContext:
    return collect(project.spec(), "FROM x\n", environ, secret_files())


def add(project: Project, name: str, content: bytes = b"") -> Path:
    path = project.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


PEM = serialized(Encoding.PEM)
