"""Certificates and kubeconfig files of a cluster's components and users, made with openssl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from services.debian import find_program, install
from services.shell import run

CONTEXT = "caliban-dev"
"""The context in each kubeconfig file."""
_DAYS = "30"


class Users:
    """Those who may call a cluster's API server.

    Args:
        directory: for keys, certificates and kubeconfig files; created if missing.
        server: URL of the API server.
    """

    def __init__(self, directory: Path, server: str) -> None:
        self.directory = directory
        self.server = server

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signs all others."""
        return self.directory / "ca.crt"

    def make_authority(self) -> None:
        """Make the certificate authority, and the key pair that signs the tokens of service accounts.

        Raises:
            Failure: openssl is missing and cannot be installed, or fails.
        """
        if find_program("openssl") is None:
            install(["openssl"], why="a cluster needs certificates")
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._make_key("ca")
        self._openssl(
            *("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=caliban-dev", "-days", _DAYS, "-out", "ca.crt"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        self._make_key("accounts")
        self._openssl("ec", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")

    def make_user(self, name: str, group: str = "", names: Sequence[str] = ()) -> Path:
        """Make a certificate and a kubeconfig file; return the latter. The user has those rights that RBAC gives.

        Args:
            name: as in ``system:kube-scheduler``.
            group: for ``system:masters``, all rights.
            names: subject alternative names of a server's certificate, as ``IP:127.0.0.1``.
        """
        file = name.replace(":", "-")
        self._make_key(file)
        subject = (f"/O={group}" if group else "") + f"/CN={name}"
        self._openssl("req", "-new", "-key", f"{file}.key", "-subj", subject, "-out", f"{file}.csr")
        extensions = "extendedKeyUsage=serverAuth,clientAuth\n"
        extensions += f"subjectAltName={','.join(names)}\n" if names else ""
        (self.directory / f"{file}.ext").write_text(extensions)
        self._openssl(
            *("x509", "-req", "-in", f"{file}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", _DAYS, "-extfile", f"{file}.ext", "-out", f"{file}.crt"),
        )
        kubeconfig = self.directory / f"{file}.kubeconfig"
        kubeconfig.write_text(json.dumps(self._kubeconfig(name, file), indent=1) + "\n")
        return kubeconfig

    def _kubeconfig(self, name: str, file: str) -> dict[str, object]:
        # JSON is YAML.
        certificate = {
            "client-certificate": f"{self.directory}/{file}.crt",
            "client-key": f"{self.directory}/{file}.key",
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": {"server": self.server, "certificate-authority": str(self.ca)}}],
            "users": [{"name": name, "user": certificate}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": name}}],
            "current-context": CONTEXT,
        }

    def _make_key(self, file: str) -> None:
        self._openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", f"{file}.key")

    def _openssl(self, *arguments: str) -> None:
        run(["openssl", *arguments], f"openssl {arguments[0]}", directory=self.directory)
