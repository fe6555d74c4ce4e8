"""The address of an engine behind ssh: ``ssh://[USER@]HOST[:PORT][/SOCKET]``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

SCHEME = "ssh://"


@dataclass(frozen=True)
class SshAddress:
    """Where an engine is.

    Attributes:
        host: the machine, or an alias in ``~/.ssh/config``.
        user: the user there; None for ssh's choice.
        port: None likewise.
        socket: the path of the engine's socket there; None for the one that docker there uses.
    """

    host: str
    user: str | None = None
    port: int | None = None
    socket: str | None = None

    @classmethod
    def parse(cls, text: str) -> SshAddress:
        """Read an address.

        Raises:
            ValueError: it is malformed; the message does not contain it, as it may have a password.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("expected ssh://USER@HOST:PORT") from None
        if parts.password is not None:
            raise ValueError("a password in ssh:// is not supported: use a key, and ssh-agent if it has a passphrase")
        if parts.query or parts.fragment or not parts.hostname:
            raise ValueError("expected ssh://USER@HOST:PORT")
        # not parts.hostname, which is in lower case: aliases in ~/.ssh/config are case-sensitive
        host = parts.netloc.rpartition("@")[2]
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        user = unquote(parts.username) if parts.username else None
        return cls(host, user, port, unquote(parts.path) if parts.path.strip("/") else None)

    def command(self) -> list[str]:
        """Return the command whose standard streams are the connection."""
        docker = ["docker", *([f"--host=unix://{self.socket}"] if self.socket else [])]
        # ssh joins the words with spaces, and a shell there splits them
        remote = [shlex.quote(word) for word in (*docker, "system", "dial-stdio")]
        return ["ssh", "-o", "ConnectTimeout=30", "-T", *self.options(), "--", self.host, *remote]

    def options(self) -> list[str]:
        """Return the options of ssh for the user and the port."""
        user = ["-l", self.user] if self.user else []
        return [*user, *(["-p", str(self.port)] if self.port else [])]
