"""Alerts are kept, folded, summed up and tried again; none is lost, and no channel holds another up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ledger_pipeline import config as configuration
from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations import delivery
from ledger_pipeline.operations.channels import AlertFailed, Message, open_channels
from ledger_pipeline.operations.delivery import deliver, raise_alerts
from ledger_pipeline.operations.settings import AlertsConfig
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.operations.receivers import hook, mail_server

START = datetime(2026, 10, 6, 3, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def wait(self, **how: float) -> None:
        self.now += timedelta(**how)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def alert(number: int = 1, at: datetime = START, **more: Any) -> Alert:
    made: dict[str, Any] = {
        "kind": "run_failed",
        "event_key": f"run:{number}",
        "sentence": "AuthError: 401: key expired",
        "noticed_at": at,
        "connection": "stripe_us",
        "partition": "2026-10-05",
        "link": f"http://127.0.0.1:3000/runs/{number}",
        "run_id": str(number),
    }
    return Alert(**made | more)


def config(*channels: dict[str, Any], **more: Any) -> AlertsConfig:
    return AlertsConfig.model_validate({"channels": channels, **more})


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect("reader") as connection:
        return connection.execute(query).fetchall()


def test_every_channel_gets_connection_partition_sentence_and_link(database: Database, clock: Clock) -> None:
    with hook() as slack, hook() as http, mail_server() as mail:
        channels = (
            {"type": "slack", "url": slack.url},
            {"type": "http", "url": http.url, "headers": {"X-Key": "abc"}},
            {"type": "email", "host": "127.0.0.1", "port": mail.port, "security": "none", "sender": "a@x.example", "to": ["b@x.example"]},
        )  # fmt: skip
        raise_alerts(database, config(*channels), [alert()], clock)
    said = "A run failed: stripe_us, 2026-10-05. AuthError: 401: key expired http://127.0.0.1:3000/runs/1"
    assert slack.got == [{"text": said}]
    assert http.got[0]["text"] == said
    assert (http.got[0]["connection"], http.got[0]["partition"], http.got[0]["run_id"]) == (
        "stripe_us",
        "2026-10-05",
        "1",
    )
    assert http.headers[0]["X-Key"] == "abc"
    assert mail.mails[0]["Subject"] == "[ledger] A run failed: stripe_us 2026-10-05"
    assert mail.mails[0].get_content().strip() == said  # type: ignore[attr-defined]


def test_a_hundred_failures_at_once_all_reach_somebody(database: Database, clock: Clock) -> None:
    alerts = [alert(n, connection=f"shop_{n}", sentence="ServerFault: 500 " + "x" * 400) for n in range(100)]
    with hook() as slack:
        raise_alerts(database, config({"type": "slack", "url": slack.url}), alerts, clock)
    texts = [one["text"] for one in slack.got]
    assert 10 < len(texts) < 20
    assert all(len(text) < 13_000 for text in texts)
    named = {n for n in range(100) if any(f"shop_{n}, " in text and f"/runs/{n}" in text for text in texts)}
    assert named == set(range(100))
    assert rows(database, "SELECT state, count(*) FROM ops.alert_delivery GROUP BY 1") == [("sent", 100)]


def test_a_hundred_more_come_as_a_summary_a_minute_later(database: Database, clock: Clock) -> None:
    with hook() as slack:
        settings = config({"type": "slack", "url": slack.url})
        raise_alerts(database, settings, [alert(n, connection=f"a{n}") for n in range(100)], clock)
        before = len(slack.got)
        raise_alerts(database, settings, [alert(1000 + n, connection=f"b{n}") for n in range(100)], clock)
        assert len(slack.got) == before, "the channel's room was used up"
        clock.wait(seconds=61)
        assert deliver(database, settings, clock) == 100
        assert len(slack.got) < before + 5


def test_the_same_trouble_is_counted_within_the_window_and_told_with_its_count_after_it(
    database: Database, clock: Clock
) -> None:
    with hook() as slack:
        settings = config({"type": "slack", "url": slack.url})
        for minute in range(5):
            raise_alerts(database, settings, [alert(minute, clock() + timedelta(minutes=minute))], clock)
        assert len(slack.got) == 1
        clock.wait(minutes=61)
        raise_alerts(database, settings, [alert(9, clock())], clock)
    assert len(slack.got) == 2
    assert slack.got[1]["text"].endswith("(and 4 times more since the last message)")
    assert rows(database, "SELECT count(*), count(folded_into) FROM ops.alert") == [(6, 4)]


def test_an_occurrence_that_is_noticed_again_is_kept_once(database: Database, clock: Clock) -> None:
    with hook() as slack:
        settings = config({"type": "slack", "url": slack.url}, same_minutes=0)
        assert len(raise_alerts(database, settings, [alert()], clock)) == 1
        assert raise_alerts(database, settings, [alert()], clock) == []
    assert len(slack.got) == 1


def test_a_channel_that_fails_holds_no_other_up_and_is_tried_again(
    database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with hook(503) as down, hook() as up:
        settings = config({"type": "slack", "url": down.url, "name": "down"}, {"type": "http", "url": up.url})
        raise_alerts(database, settings, [alert(1), alert(2, connection="plaid_us")], clock)
        assert (len(down.got), len(up.got)) == (1, 2)
        assert deliver(database, settings, clock) == 0, "the second is still tried at once, the first waits"
        down.status = 200
        clock.wait(minutes=2)
        assert deliver(database, settings, clock) == 2
    assert rows(database, "SELECT channel, state, count(*) FROM ops.alert_delivery GROUP BY 1, 2 ORDER BY 1") == [
        ("down", "sent", 2),
        ("http", "sent", 2),
    ]
    assert "secret-token" not in caplog.text
    assert "503" in caplog.text


def test_tries_are_bounded_and_what_was_never_taken_is_kept(database: Database, clock: Clock) -> None:
    settings = config({"type": "slack", "url": "http://127.0.0.1:1/secret-token"})
    raise_alerts(database, settings, [alert()], clock)
    for _ in range(20):
        clock.wait(hours=2)
        deliver(database, settings, clock)
    [(state, attempts, error)] = rows(database, "SELECT state, attempts, error FROM ops.alert_delivery")
    assert (state, attempts) == ("failed", delivery.MOST_ATTEMPTS)
    assert error == "the address was not reached (ConnectionError)"


def test_a_variable_that_is_not_set_keeps_the_alert_and_names_the_variable(database: Database, clock: Clock) -> None:
    raise_alerts(database, config({"type": "slack", "url": "${NOT_SET_ANYWHERE}"}), [alert()], clock)
    [(error,)] = rows(database, "SELECT error FROM ops.alert_delivery")
    assert error == "environment variable NOT_SET_ANYWHERE is not set"


def test_a_channel_without_an_address_is_switched_off(
    database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        raise_alerts(database, config(webhook_url="${NOT_SET_ANYWHERE:-}"), [alert()], clock)
    assert rows(database, "SELECT count(*) FROM ops.alert_delivery") == [(0,)]
    assert "key expired" in caplog.text


def test_warnings_stay_out_of_a_channel_for_errors(database: Database, clock: Clock) -> None:
    with hook() as pager:
        settings = config({"type": "slack", "url": pager.url, "min_severity": "error"})
        raise_alerts(database, settings, [alert(1, severity="warning"), alert(2, connection="x")], clock)
    assert len(pager.got) == 1
    assert "x, 2026-10-05" in pager.got[0]["text"]


def test_keys_in_a_sentence_are_masked_and_nobody_is_called_by_one(database: Database, clock: Clock) -> None:
    sentence = "GET https://api.example/?access_token=abcdef123: <!channel> Authorization: Bearer sk_live_4eC39HqLyjWD"
    with hook() as slack:
        raise_alerts(
            database, config({"type": "slack", "url": slack.url}), [alert(1, sentence=sentence, link="")], clock
        )
    text = slack.got[0]["text"]
    assert "abcdef123" not in text
    assert "sk_live" not in text
    assert "&lt;!channel&gt;" in text


def test_a_mail_that_is_refused_is_tried_again(database: Database, clock: Clock) -> None:
    with mail_server() as mail:
        mail.refuse = "451 greylisted"
        channel = {"type": "email", "host": "127.0.0.1", "port": mail.port, "security": "none", "sender": "a@x.example", "to": ["b@x.example"]}  # fmt: skip
        raise_alerts(database, config(channel), [alert()], clock)
        mail.refuse = ""
        clock.wait(minutes=2)
        deliver(database, config(channel), clock)
    assert len(mail.mails) == 1


def test_a_line_end_in_a_sentence_makes_no_mail_header(database: Database, clock: Clock) -> None:
    with mail_server() as mail:
        channel = {"type": "email", "host": "127.0.0.1", "port": mail.port, "security": "none", "sender": "a@x.example", "to": ["b@x.example"],
                   "subject": "{sentence}"}  # fmt: skip
        raise_alerts(database, config(channel), [alert(1, sentence="one\nBcc: evil@x.example")], clock)
    assert mail.mails[0]["Bcc"] is None
    assert mail.mails[0]["Subject"] == "one Bcc: evil@x.example"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{who} failed", "unknown field {who} in a template; known are title, kind"),
        ("{sentence.__class__}", "unknown field {sentence.__class__}"),
        ("{sentence!r}", "{sentence} takes no format"),
        ("{", "no template"),
    ],
)
def test_a_template_names_known_fields_only(text: str, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        config({"type": "slack", "url": "x", "text": text})
    assert said in str(error.value)


def test_two_channels_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two channels are called 'slack'"):
        config({"type": "slack", "url": "x"}, {"type": "slack", "url": "y"})


def mistakes(path: Path, *channels: str) -> Sequence[str]:
    """What is said of a file whose channels stand from line 6 on, one a line."""
    head = "entities:\n  a: {name: A, base_currency: USD, time_zone: UTC}\nconnections: {}\nalerts:\n  channels:\n"
    path.write_text(head + "".join(f"    - {channel}\n" for channel in channels))
    with pytest.raises(configuration.ConfigError) as error:
        configuration.load(path, ())
    return error.value.mistakes


def test_a_mistake_in_a_channel_is_named_by_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "ledger.yaml"
    first, second, third = mistakes(
        path, "{type: slack, url: x, adress: y}", "{type: http, url: x, text: '{who}'}", "{type: pigeon}"
    )
    assert first.startswith(f"{path}:6: alerts.channels.0.slack.adress: unknown key; known are ")
    assert "url" in first
    assert second.startswith(
        f"{path}:7: alerts.channels.1.http.text: unknown field {{who}} in a template; known are title"
    )
    assert third.startswith(f"{path}:8: alerts.channels.2: ")
    assert "'slack', 'http', 'email'" in third


MAIL = {"type": "email", "security": "none", "user": "books", "password": "canary-4711", "sender": "a@x.example", "to": ["b@x.example"]}  # fmt: skip


def test_a_password_is_not_sent_unencrypted_to_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.yaml"
    mail = "type: email, host: mail.x.example, security: none, sender: a@x.example, to: [b@x.example]"
    (said,) = mistakes(path, f"{{{mail}, user: u, password: '${{SMTP_PASSWORD}}'}}")
    assert said.startswith(f"{path}:6: alerts.channels.0.email.password: security: none would send it unencrypted")
    for host in ("127.0.0.1", "localhost", "::1", ""):
        config(MAIL | {"host": host})
    config(
        MAIL | {"host": "mail.x.example", "user": "", "password": ""},
        MAIL | {"name": "b", "host": "mail.x.example", "security": "tls"},
    )
    held_back = config(MAIL | {"host": "${SMTP_HOST}"})
    monkeypatch.setenv("SMTP_HOST", "mail.x.example")
    (channel,) = open_channels(held_back)
    with pytest.raises(AlertFailed, match="password: security: none would send it unencrypted") as refused:
        channel.send(Message("s", "t", ()))
    assert "canary" not in str(refused.value)
