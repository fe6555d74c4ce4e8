"""Plain HTTP to a stand-in for a Google API, so that anything can be sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests


class Client:
    """Sends with a token, fetched by real google-auth from the endpoint that the key file names."""

    def __init__(self, url: str, key_file: Path) -> None:
        from google.auth.transport.requests import Request
        from google.oauth2.service_account import Credentials

        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        credentials = Credentials.from_service_account_file(str(key_file), scopes=scopes)  # type: ignore[no-untyped-call]
        credentials.refresh(Request())
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {credentials.token}"
        self.url = url

    def send(self, verb: str, path: str, body: object = None, **query: str) -> requests.Response:
        return self.session.request(verb, self.url + path, json=body, params=query, timeout=10)


def error(answer: requests.Response) -> dict[str, Any]:
    """What an answer says is wrong."""
    found: dict[str, Any] = answer.json()["error"]
    assert found["code"] == answer.status_code
    return found


def wait_until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    """Look again and again."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)
