"""Paths of the API of a cluster."""

from __future__ import annotations

from urllib.parse import quote

from caliban.errors import PlatformError


def jobs_path(namespace: str) -> str:
    """Return the path of the jobs of a namespace."""
    return f"apis/batch/v1/namespaces/{segment(namespace)}/jobs"


def segment(name: str) -> str:
    """Return a name as one segment of a path.

    Raises:
        PlatformError: ``malformed-name``: it is none, as ``..``, which would address something else.
    """
    if not name or name in (".", "..") or len(name) > 253:
        raise PlatformError("malformed-name", f'malformed name in the cluster: "{name[:50]}"')
    return quote(name, safe="")
