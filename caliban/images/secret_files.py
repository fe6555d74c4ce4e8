"""Which files of a project are credentials: they never go into an image, whatever ``.dockerignore`` says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAMES = frozenset(
    {
        ".creds",
        "application_default_credentials.json",
        ".netrc",
        ".pypirc",
        ".ssh",
        ".aws",
        ".azure",
        ".boto",
        ".docker",
        ".dockercfg",
        ".gnupg",
        ".git-credentials",
        ".kube",
        ".pgpass",
    }
)
# What gcloud keeps below its configuration folder (~/.config/gcloud): tokens and keys of everybody who logged in.
_GCLOUD_NAMES = frozenset({"access_tokens.db", "credentials.db", "legacy_credentials"})
_GCLOUD_FOLDER = "gcloud"
_LARGEST_KEY_FILE = 64 * 1024
# What a Google key file, and what `gcloud auth application-default login` leaves behind, hold (google.auth's formats):
# the end of its type, as there are several of each kind, and the secret.
_MARKS = ((b'service_account"', b'"private_key"'), (b'authorized_user"', b'"refresh_token"'))


@dataclass(frozen=True)
class CredentialFinder:
    """Tells credentials from other files: by name, by content, and the file that the environment names.

    Attributes:
        named: device and inode of the file that GOOGLE_APPLICATION_CREDENTIALS names; None where there is none.
    """

    named: tuple[int, int] | None = None

    @classmethod
    def for_environment(cls, environ: Mapping[str, str]) -> CredentialFinder:
        """Look up the file that GOOGLE_APPLICATION_CREDENTIALS names."""
        path = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if not path:
            return cls()
        try:
            found = Path(path).stat()
        except OSError:  # a file that is not there cannot get into an image
            return cls()
        return cls((found.st_dev, found.st_ino))

    def finds(self, entry: os.DirEntry[str]) -> bool:
        """Tell whether this file or folder is a credential.

        Raises:
            OSError: the file cannot be read.
        """
        if entry.name in _NAMES or (entry.name in _GCLOUD_NAMES and Path(entry.path).parent.name == _GCLOUD_FOLDER):
            return True
        if not entry.is_file(follow_symlinks=False):
            return False
        found = entry.stat(follow_symlinks=False)
        if self.named == (found.st_dev, found.st_ino):
            return True
        return found.st_size <= _LARGEST_KEY_FILE and _is_key(Path(entry.path))


def _is_key(path: Path) -> bool:
    """Tell by a file's content, as a key may have any name; one that is no JSON object is not read to its end."""
    with path.open("rb") as file:
        content = file.read(64)
        if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return False
        content += file.read()
    return any(all(mark in content for mark in marks) for marks in _MARKS)
