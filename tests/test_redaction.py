from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.redaction import HIDDEN, redact, redact_assertions, strip_userinfo


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tcp://totoro:secret@host:2375", "tcp://host:2375"),
        ("https://token@host/v2/?next=//a", "https://host/v2/?next=//a"),
        ("https://totoro:p@ss@host/", "https://host/"),
        ("mail mei@example.com about https://host/", "mail mei@example.com about https://host/"),
        ("//a:b@one and //c:d@two", "//one and //two"),
    ],
)
def test_urls_are_shown_without_user_and_password(text: str, shown: str) -> None:
    assert strip_userinfo(text) == shown


def test_a_signed_assertion_is_hidden() -> None:
    assert redact_assertions("assertion=eyJhbGciOi.eyJpc3Mi.c2ln-bmF0&x=1") == f"assertion={HIDDEN}&x=1"


@given(st.text(alphabet=st.characters(exclude_characters="*", codec="utf-8"), min_size=8))
def test_a_secret_is_hidden_however_it_is_encoded(secret: str) -> None:
    forms = (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])
    assert redact([secret], "|".join(forms)) == "|".join([HIDDEN] * 3)


@pytest.mark.parametrize("secret", [None, "", 42])
def test_what_is_not_a_secret_hides_nothing(secret: object) -> None:
    assert redact([secret], "None, '' and 42") == "None, '' and 42"
