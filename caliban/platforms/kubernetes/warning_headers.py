"""Read the ``Warning`` headers of an API server: what kubectl shows as ``Warning: ...``. Pure.

Admission policies, PodSecurity and deprecated APIs use them for requests that are accepted all the same.
Sources: RFC 7234, section 5.5; https://kubernetes.io/blog/2020/09/03/warnings/; ParseWarningHeader in
k8s.io/apimachinery (pkg/util/net/http.go) and handleWarnings in k8s.io/client-go (rest/warnings.go).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

_WARNING = re.compile(
    r"""(?:^|,)\s*(?P<code>\d{3})\ [^\s",]+\ "(?P<text>(?:[^"\\]|\\.)*)"(?:\s*"[^"]*")?\s*(?=,|$)""", re.VERBOSE
)
_MISCELLANEOUS_PERSISTENT = "299"
"""The only code that Kubernetes uses; client-go ignores the others, and what is malformed."""
_MAX_WARNINGS = 100


def warnings_in(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the texts of the warnings in a response, without repetitions.

    Args:
        headers: of the response, as http.client decodes them; the values of a repeated one joined with commas.
    """
    joined = next((value for name, value in headers.items() if name.lower() == "warning"), "")
    matches = islice(_WARNING.finditer(joined), _MAX_WARNINGS)
    texts = (_decoded(re.sub(r"\\(.)", r"\1", match["text"])) for match in matches if _is_kubernetes(match))
    return tuple(dict.fromkeys(filter(None, texts)))


def _is_kubernetes(match: re.Match[str]) -> bool:
    return match["code"] == _MISCELLANEOUS_PERSISTENT


def _decoded(text: str) -> str:
    """Return a text that an API server sent in UTF-8; http.client reads headers as ISO-8859-1."""
    try:
        return text.encode("iso-8859-1").decode().strip()
    except ValueError:
        return text.strip()
