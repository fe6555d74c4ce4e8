from __future__ import annotations

import json
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban import jsonc
from caliban.errors import ExitCode, UsageError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=12,
)


def failure(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        jsonc.loads(text, source="experiment.json")
    assert caught.value.id == "malformed-json"
    return caught.value


@given(JSON_VALUES)
def test_plain_json_is_read_as_by_the_standard_parser(value: object) -> None:
    assert jsonc.loads(json.dumps(value, indent=1), source="x") == value


@given(TEXT)
def test_a_string_is_never_read_as_a_comment(text: str) -> None:
    assert jsonc.loads(json.dumps([text, text + "//", "# " + text, "/*" + text, text + ",]"]), source="x") == [
        text,
        text + "//",
        "# " + text,
        "/*" + text,
        text + ",]",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1 // one\n}',
        '# first\n{"a": 1}',
        '{/* one\n two */"a": 1}',
        '{"a": 1,}',
        '{"a": 1, // one\n}',
        '\ufeff{"a": 1}',
        '{"a": 1}\r\n# end',
        '{"a": 1, /* x */ } /* y **/',
    ],
)
def test_comments_and_trailing_commas_are_ignored(text: str) -> None:
    assert jsonc.loads(text, source="x") == {"a": 1}


@pytest.mark.parametrize("text", ["[,]", "[1,,]", "{,}", '{"a":,}', ",", ""])
def test_a_comma_without_a_value_is_invalid(text: str) -> None:
    failure(text)


def test_an_error_names_source_line_and_column_of_the_original_text() -> None:
    error = failure('{\n  "a": 1, /* é */ // x\n  "b": oops\n}')
    assert error.message == "experiment.json: invalid JSON at line 3, column 8"


def test_an_error_shows_the_line_with_a_caret_below_the_position() -> None:
    cause = failure('{\n  "b": oops\n}').cause or ""
    assert cause.splitlines()[1:] == ['  "b": oops', "       ^"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n  \n\t"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [('{\n  "b": 1', '  "b": 1'), ('{\n  "b":', '  "b":'), ("[\n1, // x", "1, // x"), ('{"a": 1,\n', '{"a": 1,')],
)
def test_an_error_at_the_end_of_the_file_shows_the_end_of_its_last_line(text: str, shown: str, end: str) -> None:
    error = failure(text + end)
    reason, line, caret = (error.cause or "").splitlines()
    assert reason.endswith(", found the end of the file")
    assert (line, caret) == (shown, " " * len(shown) + "^")
    number = text.rstrip().count("\n") + 1
    assert error.message == f"experiment.json: invalid JSON at line {number}, column {len(shown) + 1}"


@pytest.mark.parametrize("text", ["", "\n", " \t\r\n\n", "\ufeff", "\ufeff\n"])
def test_an_empty_file_is_named_so(text: str) -> None:
    assert (failure(text).message, failure(text).cause) == ("experiment.json: no JSON value", "the file is empty")


def test_a_long_last_line_is_cut_before_its_end() -> None:
    shown, caret = (failure("[" + "1, " * 200).cause or "").splitlines()[1:]
    assert (len(shown) <= 100, len(caret)) == (True, len(shown.rstrip()) + 1)


def test_a_long_line_is_cut_around_the_position() -> None:
    cause = failure("[" + "1, " * 200 + "oops]").cause or ""
    shown, caret = cause.splitlines()[1:]
    assert shown[len(caret) - 1 :].startswith("o")


def test_an_unterminated_comment_is_reported_where_it_starts() -> None:
    error = failure('{"a": 1}\n/* and so')
    assert error.message == "experiment.json: invalid JSON at line 2, column 1"
    assert str(error.cause).splitlines()[0] == "unterminated comment"


def test_a_comment_of_three_characters_is_unterminated() -> None:
    failure("1 /*/")


def test_an_unterminated_string_is_reported_at_its_own_line() -> None:
    assert "line 1" in failure('{"a": "b // c\n}').message


def test_a_duplicate_key_is_named() -> None:
    assert failure('{"a": {"lr": 1, "lr": 2}}').message == 'experiment.json: duplicate key "lr"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN is not valid JSON"),
        ("[Infinity]", "Infinity is not valid JSON"),
        ("-Infinity", "-Infinity is not valid JSON"),
        ("1e999", "number out of range: 1e999"),
        ("1" * 5000, f"number out of range: {'1' * 20}..."),
    ],
)
def test_a_number_that_json_does_not_have_is_invalid(text: str, message: str) -> None:
    assert failure(text).message == f"experiment.json: {message}"


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    assert failure("[" * 200_000).message == "experiment.json: nested too deeply"


@pytest.mark.parametrize(("depth", "is_valid"), [(jsonc.MAX_DEPTH, True), (jsonc.MAX_DEPTH + 1, False)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_has_a_limit(opening: str, closing: str, depth: int, is_valid: bool) -> None:
    text = opening * depth + "1" + closing * depth
    if is_valid:
        assert json.dumps(jsonc.loads(text, source="x"), separators=(",", ":")) == text
    else:
        assert "levels" in (failure(text).hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "1" * 10**6,
        "-" + "1" * 10**6,
        "1." + "0" * 10**6,
        "1e" + "9" * 10**6,
        '{"' + "a" * 10**6 + '": 1, "' + "a" * 10**6 + '": 2}',
    ],
    ids=["digits", "negative", "decimals", "exponent", "key"],
)
def test_an_error_about_a_huge_value_is_short(text: str) -> None:
    error = failure(text)
    assert len(error.message) + len(error.cause or "") < 400


def test_huge_integers_are_invalid_although_the_environment_allows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert "out of range" in failure("1" * 10**6).message
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize("text", ['"' + "a" * 10**6 + '"', '["' + "\\\\" * 10**5 + '"]'], ids=["plain", "escapes"])
def test_the_memory_for_a_long_string_is_bounded(text: str) -> None:
    tracemalloc.start()
    try:
        jsonc.loads(text, source="x")
        assert tracemalloc.get_traced_memory()[1] < 100 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("string", ["a\\u0000b", "\\ud800", "\\udc00\\ud800", "\0", "a\ud800"])
@pytest.mark.parametrize("place", ['"{}"', '["{}"]', '{{"{}": 1}}', '{{"a": [1, "{}"]}}'])
def test_a_string_that_no_process_can_be_given_is_invalid(string: str, place: str) -> None:
    failure(place.format(string))


def test_a_surrogate_pair_is_one_character() -> None:
    assert jsonc.loads('["\\ud83d\\ude00"]', source="x") == ["\U0001f600"]


def test_a_byte_order_mark_inside_a_string_is_kept() -> None:
    assert jsonc.loads('["a\ufeffb"]', source="x") == ["a\ufeffb"]


def test_a_malformed_file_is_wrong_usage() -> None:
    assert failure("{").exit_code is ExitCode.USAGE
