from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import CalibanError
from caliban.redaction import (
    HIDDEN,
    clean_text,
    exception_text,
    has_credential,
    library_boundary,
    redact,
    redact_assertions,
    register_secrets,
    strip_userinfo,
)


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


TOKEN = "ya29.a0AfH6SMBx_secret-part"

LIBRARY_TEXTS = {
    "a header of http.client": f"Invalid header value b'Bearer {TOKEN}\\n'",
    "an unknown token in a header of http.client": "Invalid header value b'Bearer secret-part\\n'",
    "a header as text": "Authorization: Bearer secret-part",
    "a header as JSON": '{"authorization": "Bearer secret-part", "x": 1}',
    "headers as Python shows them": "{'Authorization': 'Basic c2VjcmV0LXBhcnQ=', 'Accept': '*/*'}",
    "a proxy's header": "Proxy-Authorization: Basic secret-part",
    "a proxy in an error of urllib3": "Cannot connect to proxy http://totoro:secret-part@proxy:3128",
    "a proxy without a scheme": "Failed to parse: totoro:secret-part@proxy:3128",
    "a password with a slash": "cannot parse http://totoro:pa/secret-part@proxy:3128/",
    "a query": "https://host/?access_token=secret-part&x=1",
    "a form": "grant_type=refresh_token&refresh_token=secret-part",
    "a JSON body": '{"refresh_token": "secret-part", "client_secret":"secret-part"}',
    "an escaped JSON body": '"{\\"refresh_token\\": \\"secret-part\\"}"',
    "a private key": "-----BEGIN PRIVATE KEY-----\nsecret-part\n-----END PRIVATE KEY-----\n",
    "a private key without its end": "bad key -----BEGIN RSA PRIVATE KEY-----\nsecret-part",
    "a signed assertion": "assertion eyJhbGciOi.secret-part.c2ln-bmF0",
    "a GitHub token": "ghp_0123456789abcdefsecret",
}


@pytest.mark.parametrize("text", LIBRARY_TEXTS.values(), ids=LIBRARY_TEXTS.keys())
def test_credentials_in_the_text_of_an_exception_are_hidden(text: str) -> None:
    shown = exception_text(ValueError(text))
    assert "secret" not in shown.replace("client_secret", "")
    assert "c2VjcmV0" not in shown


@pytest.mark.parametrize("form", ["{}", "b'{}\\n'", "https://x/?q={}", "({})", "x{}x"])
def test_a_registered_secret_is_hidden_in_every_text(form: str) -> None:
    register_secrets("opaque value/1", 7, None, "")
    assert "opaque" not in exception_text(ValueError(form.format("opaque value/1")))
    assert "opaque" not in exception_text(ValueError(form.format(quote("opaque value/1", safe=""))))


def test_a_line_of_a_registered_secret_is_hidden() -> None:
    register_secrets("first-part\nsecond-part\n")
    assert exception_text(ValueError("got second-part here")) == f"got {HIDDEN} here"


def test_a_short_secret_is_hidden_as_a_word_only() -> None:
    register_secrets("pw")
    assert exception_text(ValueError("pwd: pw, upward")) == f"pwd: {HIDDEN}, upward"


@pytest.mark.parametrize(
    "text",
    [
        "Basic authentication required",
        "bearer token required",
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"',
        "invalid reference: localhost:5000/a/b@sha256:0123",
        "password: no",
        "mail totoro@example.com",
        "https://127.0.0.1:8080/a?x=b@c",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert exception_text(ValueError(text)) == text


def test_an_exception_is_one_short_line_without_control_characters() -> None:
    shown = exception_text(ValueError("one\n  two\r\n\x1b[31mred\u202e \ud800" + "x" * 10_000))
    assert shown.startswith("one two \\x1b[31mred\\u202e \\ud800xxx")
    assert len(shown) == 500


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "shown"), [(_Mute(), "_Mute"), (KeyError(), "KeyError"), (ValueError(" \n"), "ValueError")]
)
def test_an_exception_without_a_text_is_shown_by_its_type(error: Exception, shown: str) -> None:
    assert exception_text(error) == shown


def test_an_error_of_the_operating_system_names_its_file() -> None:
    assert exception_text(FileNotFoundError(2, "No such file or directory", "/a")) == "No such file or directory: /a"


def test_lines_of_a_text_stay_lines() -> None:
    assert clean_text("one\r\ntwo\x07\n") == "one\ntwo\\x07"


@pytest.mark.parametrize("piece", ["eyJ-", "//", "a:", "'bearer ", "-----BEGIN PRIVATE KEY-----", "\\"])
def test_a_long_text_is_shown_in_bounded_work(piece: str) -> None:
    assert len(clean_text(piece * 1_000_000)) <= 2000


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    exception_text(ValueError(text)).encode("utf-8")


def test_whatever_a_library_raises_becomes_one_error() -> None:
    with pytest.raises(CalibanError) as caught, library_boundary(lambda text: CalibanError("odd", "odd", cause=text)):
        raise RecursionError("Bearer secret-part1")
    assert caught.value.cause == f"Bearer {HIDDEN}"
    assert caught.value.__suppress_context__


def test_our_own_errors_pass_the_boundary() -> None:
    error = CalibanError("ours", "ours")
    with pytest.raises(CalibanError) as caught, library_boundary(lambda text: CalibanError("odd", "odd")):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "text",
    [
        "pip install --index-url https://mei:hunter22@example.com/simple",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
        "TOKEN = 'hf_abcdefghijklmnopqrstuvwx'",
        "key: AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOi.eyJpc3Mi.c2ln",
    ],
)
def test_a_text_with_a_credential_has_one(text: str) -> None:
    assert has_credential(text)


@pytest.mark.parametrize("text", ["", "password = args.password\n", "@dataclass\nurl = 'https://example.com'\n"])
def test_source_code_that_only_names_credentials_has_none(text: str) -> None:
    assert not has_credential(text)


def test_a_registered_secret_is_a_credential() -> None:
    register_secrets("correct horse")
    assert has_credential("x = 'correct horse'")
