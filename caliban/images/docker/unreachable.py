"""The error for a Docker daemon that cannot be reached, with a hint that fits the cause."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from caliban.errors import ImageError
from caliban.images.docker.ssh_address import SshAddress
from caliban.redaction import exception_text, strip_userinfo

_CHECK = "check that Docker runs (docker info), and the value of DOCKER_HOST"
_CERTIFICATES = (
    "certificates are always verified, whatever a docker context says: check that ca.pem in DOCKER_CERT_PATH, "
    "or in the context, belongs to the certificate authority that signed the engine's certificate"
)
_GROUP = "join the group docker, then log in again: sudo usermod -aG docker $USER"
# A part of what ssh, or docker at the other end, reports -> what to do about it. The first that fits counts.
_SSH_HINTS = (
    ("connect: permission denied", "join the group docker on that machine: sudo usermod -aG docker USER"),
    ("failed to open the raw stream connection", "start Docker on that machine, or name its socket: ssh://HOST/PATH"),
    ("cannot run ssh", "install the OpenSSH client, which ssh:// needs"),
    ("Host key verification failed", "connect once with ssh, and accept the key of the host"),
    ("Permission denied", "ssh needs a key that asks for no password: set it up with ssh-copy-id and ssh-add"),
    ("not found", "install the docker command there, version 18.09 or later, on the PATH of a shell without login"),
)


def unreachable(error: BaseException, host: str, environ: Mapping[str, str] | None = None) -> ImageError:
    """Return the error for an engine that cannot be reached.

    Args:
        error: what docker-py or the connection raised.
        host: the engine's endpoint.
        environ: where it was to be connected to for the first time: the environment variables.
    """
    reason = _first_cause(error)
    words = reason.strerror if isinstance(reason, OSError) and reason.strerror else exception_text(reason)
    return ImageError(
        "docker-unreachable",
        f"cannot reach the Docker daemon at {host}",
        cause=strip_userinfo(words),
        hint=_hint(error, reason, host, environ),
    )


def _hint(error: BaseException, reason: BaseException, host: str, environ: Mapping[str, str] | None) -> str:
    if host.startswith("ssh://") and _is_of_ssh(error):
        return next((hint for text, hint in _SSH_HINTS if text in str(error)), _ssh_check(host))
    if "certificate verify failed" in str(error):
        return _CERTIFICATES
    is_denied = isinstance(reason, PermissionError)
    if not is_denied and not isinstance(reason, FileNotFoundError | ConnectionRefusedError):
        return _CHECK
    usual = _GROUP if is_denied else "start Docker, or set DOCKER_HOST"
    if environ is None:
        return usual
    from caliban.images.docker.sockets import choice_hint, start_hint

    socket = host.partition(" (docker context ")[0]
    choice = choice_hint(socket, environ)
    if is_denied:
        return f"{usual}; or {choice}" if choice else usual
    start = start_hint(socket, environ)
    return f"{start or 'start Docker'}; or {choice}" if choice else start or usual


def _ssh_check(host: str) -> str:
    try:
        address = SshAddress.parse(host.partition(" (docker context ")[0])
    except ValueError:
        return _CHECK
    return f"check the connection: {shlex.join(['ssh', *address.options(), address.host])} docker version"


def _is_of_ssh(error: BaseException) -> bool:
    from caliban.images.docker.ssh import SshError  # imports requests

    return isinstance(error, SshError)


def _first_cause(error: BaseException) -> BaseException:
    """Return the error of the operating system below what requests and urllib3 wrap around it."""
    seen = error
    while (below := seen.__cause__ or seen.__context__) is not None:
        seen = below
        if isinstance(seen, PermissionError | FileNotFoundError | ConnectionRefusedError):
            return seen
    return error
