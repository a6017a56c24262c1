"""A canary key must not come out: not in errors, tracebacks or logs, however the other side echoes it."""

from __future__ import annotations

import base64
import json
import logging
import sys
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_pipeline.connect.auth import (
    Basic,
    Bearer,
    BodyKeys,
    FileTokenStore,
    HeaderKeys,
    OAuth2Refresh,
    Secret,
    Token,
)
from ledger_pipeline.connect.errors import ConnectError
from ledger_pipeline.connect.redact import Redactor, process_wide, remember, remember_address, without_values

from .conftest import Answer, to_json

CANARY = 'sk_live/c4n ary+\xff~=%&"4711'


def forms(secret: str) -> list[str]:
    pair = f"user:{secret}".encode()
    encodings = (base64.b64encode, base64.urlsafe_b64encode)
    encoded = [f(data).decode().rstrip("=") for data in (secret.encode(), pair) for f in encodings]
    quoted = [quote(secret, safe=""), quote(secret), quote_plus(secret)]
    return [secret, *quoted, *(json.dumps(secret, ensure_ascii=flag)[1:-1] for flag in (True, False)), *encoded]


AUTHS = {
    "bearer": Bearer(Secret(CANARY)),
    "basic": Basic("user", Secret(CANARY)),
    "header": HeaderKeys({"X-Odd-Name": Secret(CANARY)}),
    "body": BodyKeys({"odd_name": Secret(CANARY)}),
}


def echo(status: int, fault: str = ""):
    def script(got):
        body = json.dumps({"sent": got.headers, "path": got.path, "query": got.query}).encode() + got.body
        return Answer(status, body, fault=fault)

    return script


@pytest.mark.parametrize("name", AUTHS)
@pytest.mark.parametrize(
    ("status", "fault"), [(400, ""), (401, ""), (429, ""), (500, ""), (200, "reset"), (200, "truncate")]
)
def test_a_key_is_in_no_error_and_no_log(serve, connect, caplog, name, status, fault):
    server = serve(echo(status, fault))
    client = connect(server.url, AUTHS[name], max_attempts=2)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectError) as caught:
        client.request("POST", "/x", params={"api_key": CANARY}, json={}, is_safe=True)
    text = (
        "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value)) + caplog.text
    )
    leaked = [form for form in forms(CANARY) if form in text]
    assert leaked == []
    assert CANARY in server.got[0].query["api_key"], "the key must have been sent, or this test shows nothing"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("form", [*forms(CANARY), CANARY + "\n", repr(CANARY + "\n")[1:-1]])
def test_a_known_key_is_masked_in_every_form_wherever_it_stands(form):
    text = Redactor([Secret(CANARY + "\n"), Secret(f"user:{CANARY}")])(f"before {form} after")
    assert text.replace("\n", "").replace("\\n", "").replace("=", "") == "before *** after"


def test_a_key_with_a_line_end_is_refused_without_being_shown(serve, connect):
    server, auth = serve([Answer()]), Bearer(Secret("canary-4711\n"))
    with pytest.raises(ConnectError, match="line end in a key") as caught:
        connect(server.url, auth).get("/x")
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert server.got == []


def test_tokens_that_came_later_are_masked_too(serve, connect, tmp_path):
    def script(got):
        if got.path == "/token":
            return to_json({"access_token": "canary-access", "refresh_token": "canary-refresh-2", "expires_in": 3600})
        return Answer(
            400,
            b"you sent " + got.headers["Authorization"].removeprefix("Bearer ").encode() + b" after canary-refresh-2",
        )

    server = serve(script)
    store = FileTokenStore(tmp_path)
    store.save("stripe_us", Token("old", "canary-refresh-1", 0.0))
    auth = OAuth2Refresh("stripe_us", f"{server.url}/token", "id", Secret("canary-client"), store)
    with pytest.raises(ConnectError, match=r"you sent \*\*\* after \*\*\*"):
        connect(server.url, auth).get("/x")
    assert "canary" not in repr(auth)


def test_a_token_endpoint_that_echoes_is_masked(serve, connect, tmp_path):
    server = serve(lambda got: Answer(400, b'{"error": "invalid_grant", "error_description": "' + got.body + b'"}'))
    auth = OAuth2Refresh(
        "stripe_us",
        f"{server.url}/token",
        "id",
        Secret("canary-client"),
        FileTokenStore(tmp_path),
        client_auth="body",
        first=Secret("canary-first"),
    )
    with pytest.raises(ConnectError, match="invalid_grant") as caught:
        connect(server.url, auth).get("/x")
    assert b"canary-first" in server.got[0].body
    assert "canary" not in str(caught.value)


def test_secrets_do_not_print():
    secret = Secret(CANARY)
    assert {str(secret), repr(secret), f"{secret}", f"{[secret]}"} == {"***", "[***]"}
    assert CANARY not in repr(Bearer(secret)) + repr(BodyKeys({"a": secret})) + repr(Token(CANARY, CANARY))
    assert secret == Secret(CANARY)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET /x?api_key=abc123&limit=5", "GET /x?api_key=***&limit=5"),
        ("/x?limit=5&access_token=abc", "/x?limit=5&access_token=***"),
        ("Authorization: Bearer abcdef123", "Authorization: ***"),
        ("sent Bearer abcdef123 twice", "sent Bearer *** twice"),
        ("Cookie: a=b; c=d\nHost: x", "Cookie: ***\nHost: x"),
        ("X-Shopify-Access-Token: shpat_1", "X-Shopify-Access-Token: ***"),
        ('{"client_secret": "abc", "n": 1}', '{"client_secret": "***", "n": 1}'),
        ('{"refresh_token":"a\\"b"}', '{"refresh_token":"***"}'),
        ("{'password': 'a', 'n': 1}", "{'password': '***', 'n': 1}"),
        (r'{"sent":"{\"secret\":\"abc\",\"n\":1}"}', r'{"sent":"{\"secret\":\"***\",\"n\":1}"}'),
        ("https://user:pass@example.com/x", "https://***@example.com/x"),
    ],
)
def test_what_looks_like_a_key_is_masked_without_being_known(text, masked):
    assert Redactor()(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        '{"code": "THROTTLED", "error_code": "ITEM_LOGIN_REQUIRED"}',
        "/x?limit=5&starting_after=txn_1&page_token=abc",
        "the token expired at 10:00",
        '{"next_token": "abc", "idempotency": 1}',
    ],
)
def test_what_is_no_key_stays_readable(text):
    assert Redactor()(text) == text


def test_as_a_logging_filter_it_masks_arguments_and_tracebacks(caplog):
    logger = logging.getLogger("connect.redact.test")
    key = "canary-4711"
    caplog.handler.addFilter(redactor := Redactor([Secret(key)]))
    try:
        try:
            raise ValueError(f"{key} in an error")
        except ValueError:
            logger.exception("%s in an argument", key)
    finally:
        caplog.handler.removeFilter(redactor)
    assert "canary" not in caplog.text
    assert "*** in an argument" in caplog.text
    assert "ValueError: *** in an error" in caplog.text


def test_the_filter_leaves_no_traceback_for_another_formatter_to_print():
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed", (), None)
    try:
        raise ValueError("canary-4711")
    except ValueError:
        record.exc_info = sys.exc_info()
    record.exc_text = "cached by another handler: canary-4711"
    assert Redactor(["canary-4711"]).filter(record)
    assert record.exc_info is None
    assert "ValueError: ***" in record.exc_text


def test_a_short_secret_does_not_scramble_everything():
    assert Redactor(["a", "ab"])("a cabbage") == "a cabbage"


# people -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("'12,50' is not a decimal number", "'12,50' is not a decimal number"),
        ("unknown currency 'USX' (not active)", "unknown currency 'USX' (not active)"),
        ("no rule for 'LENDING_CREDIT'", "no rule for 'LENDING_CREDIT'"),
        ("paid_by is 'card', it was 'gift_card'", "paid_by is 'card', it was 'gift_card'"),
        ("'2026-02-30' is no date, '10:61' no time", "'2026-02-30' is no date, '10:61' no time"),
        ("'Jane Doe' is no number", "'***' is no number"),
        ('"Jane O\'Brien" is no number', "'***' is no number"),
        ("'Jane' is no number", "'***' is no number"),
        ("an entry's status is 'Jane Doe'", "an entry's status is '***'"),
        ("'07700900461' is no date", "'***' is no date"),
        ("line 3: '4111 1111 1111 1111' is no date", "line 3: '***' is no date"),
        ("'jane@example.org' is no code", "'***' is no code"),
        ("statement of account GB33BUKB20201555555555: x", "statement of account ***5555: x"),
        ("call +44 7700 900461 or jane@example.org", "call *** or ***"),
    ],
)
def test_a_message_about_a_record_quotes_what_names_nobody(message: str, told: str) -> None:
    assert without_values(message) == told


def test_an_address_is_masked_where_it_is_a_key_and_not_where_it_is_a_word() -> None:
    remember_address("https://hooks.example/services/T0/address-canary?token=query-canary-0815")
    remember_address("http://127.0.0.1:8080/word")
    assert process_wide('"POST /services/T0/address-canary?token=query-canary-0815"') == '"POST ***?***"'
    assert process_wide("POST /word-canary") == "POST /word-canary"


def test_a_remembered_secret_is_masked_in_the_whole_process() -> None:
    remember(["hook-canary-0815"])
    assert process_wide("POST /services/hook-canary-0815 HTTP/1.1") == "POST /services/*** HTTP/1.1"


@pytest.mark.parametrize(
    ("secrets", "text", "masked"),
    [
        (("abcdef", "defghi"), "x abcdefghi y", "x *** y"),
        (("abcdefgh", "cdef", "efghij"), "x abcdefghij y", "x *** y"),
        (("abab12", "12cd"), "abab12cd", "***"),
        (("abab",), "xababab", "x***"),
        (("abcd", "1234"), "abcd1234 abcd-1234", "*** ***-***"),
        (("def ghi",), "Authorization: Bearer abcdef ghijkl", "Authorization: ***"),
        (("a&b-canary",), "key=1234a&b-canary99&x=1", "key=***&x=1"),
        (("canary&x",), "token=first-canary&x=1", "token=***"),
    ],
)
def test_overlapping_nested_and_adjacent_secrets_are_masked_as_one(
    secrets: tuple[str, ...], text: str, masked: str
) -> None:
    assert Redactor(secrets)(text) == masked


_WORDS = st.text("ab12", min_size=4, max_size=8)


@given(st.lists(_WORDS, min_size=1, max_size=5), st.text("ab12 ", max_size=40), st.data())
def test_nothing_of_any_secret_is_left_however_they_overlap(
    secrets: list[str], around: str, data: st.DataObject
) -> None:
    """What no secret covers stays, what one covers is gone; a run of covered characters is one mask."""
    text = around + "".join(data.draw(st.lists(st.sampled_from([*secrets, *(s[1:] for s in secrets)]), max_size=6)))
    covered = {at + n for s in secrets for at in range(len(text)) if text.startswith(s, at) for n in range(len(s))}
    want = "".join("*" if n in covered else c for n, c in enumerate(text))
    got = Redactor(secrets)(text)
    assert got == "***".join(_without_runs(want))
    assert not any(secret in got for secret in secrets)


def _without_runs(text: str) -> list[str]:
    """What stands between runs of stars."""
    while "**" in text:
        text = text.replace("**", "*")
    return text.split("*")
