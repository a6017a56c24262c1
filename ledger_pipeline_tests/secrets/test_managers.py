"""What references lead to: files, AWS Secrets Manager (moto), Vault (emulated), for how long, and what is said when they lead nowhere."""

from __future__ import annotations

import builtins
import logging
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline import config
from ledger_pipeline.config import ConfigError
from ledger_pipeline.secrets import keeper as keeping
from ledger_pipeline.secrets.keeper import Document, Keeper, Version, keeper
from ledger_pipeline.secrets.references import Reference, SecretError, read
from ledger_pipeline.secrets.vault import Manager as VaultManager
from ledger_pipeline_tests.secrets.vault_server import Vault

SECRET = "sk_live_hunter2"


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        config.resolve(text)
    return str(error.value)


# files --------------------------------------------------------------------------------------------------------


def mounted(folder: Path, content: bytes, mode: int = 0o400) -> str:
    path = folder / "stripe"
    path.write_bytes(content)
    path.chmod(mode)
    return f"${{file:{path}}}"


@pytest.mark.parametrize("content", [SECRET, SECRET + "\n", SECRET + "\r\n"])
def test_a_file_is_read_without_its_last_line_end(tmp_path: Path, content: str) -> None:
    assert config.resolve(f"Bearer {mounted(tmp_path, content.encode())}") == f"Bearer {SECRET}"


def test_only_one_line_end_is_taken_away(tmp_path: Path) -> None:
    assert config.resolve(mounted(tmp_path, b"a\nb\n\n")) == "a\nb\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\n", "the file is empty"), (b"\xff", "not UTF-8"), (b"x" * 70_000, "longer than 65536 bytes")],
)
def test_a_file_that_is_no_secret_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal(mounted(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = f"${{file:{tmp_path}/none}}: the file can't be read (No such file or directory)"
    assert refusal(f"${{file:{tmp_path}/none}}") == said


def test_a_file_that_everybody_may_read_is_named_once_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = mounted(tmp_path, SECRET.encode(), 0o644)
    config.resolve([text, text])
    assert [r.getMessage() for r in caplog.records] == [
        f"{text}: everybody on this machine may read the file; chmod o-r"
    ]
    caplog.clear()
    config.resolve(mounted(tmp_path, SECRET.encode(), 0o440))
    assert caplog.records == []


# AWS ----------------------------------------------------------------------------------------------------------


def test_an_aws_secret_is_read_whole_or_by_key(aws: Any) -> None:
    aws.create_secret(Name="plain", SecretString=SECRET)
    aws.create_secret(Name="pair", SecretString='{"id": "c1", "secret": "s1", "n": 7}')
    aws.create_secret(Name="bytes", SecretBinary=b"b1")
    assert config.resolve(["${aws:plain}", "${aws:pair#id}:${aws:pair#secret}", "${aws:pair#n}", "${aws:bytes}"]) == [
        *(SECRET, "c1:s1", "7", "b1")
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${aws:none}", "${aws:none}: AWS Secrets Manager refuses it (ResourceNotFoundException)"),
        ("${aws:plain#key}", "${aws:plain#key}: the secret is no JSON object, so it has no keys"),
        ("${aws:pair#none}", "${aws:pair#none}: the secret has no key 'none'"),
    ],
)
def test_an_aws_secret_that_is_not_there_is_named(aws: Any, text: str, said: str) -> None:
    aws.create_secret(Name="plain", SecretString=SECRET)
    aws.create_secret(Name="pair", SecretString=f'{{"id": "{SECRET}"}}')
    assert refusal(text) == said


def test_before_a_rotation_there_is_one_aws_version_and_after_it_two(aws: Any) -> None:
    aws.create_secret(Name="key", SecretString="one")
    assert config.resolve("${aws:key}", version="previous") == "one"
    aws.put_secret_value(SecretId="key", SecretString="two")
    keeper.expire([read("aws:key")])
    assert [config.resolve("${aws:key}", version=version) for version in ("current", "previous")] == ["two", "one"]


def test_aws_is_given_up_within_its_attempts(monkeypatch: pytest.MonkeyPatch, aws: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{port}")
    assert refusal("${aws:key}") == "${aws:key}: AWS Secrets Manager was not reached (EndpointConnectionError)"


def test_the_log_at_debug_level_has_no_aws_answer(aws: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    aws.create_secret(Name="plain", SecretString="unseen")
    aws.put_secret_value(SecretId="plain", SecretString=SECRET[::-1])
    logging.getLogger("botocore").setLevel(logging.NOTSET)
    caplog.clear()
    assert config.resolve("${aws:plain}") == SECRET[::-1]
    assert SECRET[::-1] not in caplog.text


# Vault --------------------------------------------------------------------------------------------------------


def test_a_vault_secret_is_read_by_key(vault: Vault) -> None:
    vault.put("secret/books/stripe", api_key=SECRET, webhook="w1")
    text = "${vault:secret/books/stripe#api_key} ${vault:secret/books/stripe#webhook}"
    assert config.resolve(text) == f"{SECRET} w1"
    assert vault.asked == ["/v1/secret/data/books/stripe"]  # one secret is one question


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${vault:secret/none#k}", "${vault:secret/none#k}: Vault has no such secret, or it was deleted"),
        ("${vault:secret/gone#k}", "${vault:secret/gone#k}: Vault has no such secret, or it was deleted"),
        ("${vault:secret/there#none}", "${vault:secret/there#none}: the secret has no key 'none'"),
        ("${vault:secret/there#nested}", "${vault:secret/there#nested}: the value is no text"),
    ],
)
def test_a_vault_secret_that_is_not_there_is_named(vault: Vault, text: str, said: str) -> None:
    vault.put("secret/there", k=SECRET, nested={"a": SECRET})
    vault.secrets["secret/gone"] = [{"k": SECRET}, None]
    assert refusal(text) == said


def test_before_a_rotation_there_is_one_vault_version_and_after_it_two(vault: Vault) -> None:
    vault.put("secret/key", k="one")
    assert config.resolve("${vault:secret/key#k}", version="previous") == "one"
    vault.put("secret/key", k="two")
    keeper.expire([read("vault:secret/key#k")])
    found = [config.resolve("${vault:secret/key#k}", version=version) for version in ("current", "previous")]
    assert found == ["two", "one"]


def test_a_vault_token_that_is_refused_is_named_and_not_shown(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", SECRET)
    assert refusal("${vault:secret/key#k}") == "${vault:secret/key#k}: Vault refuses it (403)"


def test_without_a_login_all_ways_are_named(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    assert "Vault needs a login: VAULT_TOKEN, VAULT_TOKEN_FILE, VAULT_ROLE_ID" in refusal("${vault:secret/key#k}")
    monkeypatch.delenv("VAULT_ADDR")
    keeper.forget()
    assert refusal("${vault:secret/key#k}") == "${vault:secret/key#k}: VAULT_ADDR is not set"


def log_in_by(kind: str, folder: Path, environment: dict[str, str]) -> None:
    (folder / "token").write_text("pod\n" if kind == "kubernetes" else "root\n" if kind == "token file" else "id\n")
    environment |= {
        "approle": {"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "id"},
        "approle file": {"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID_FILE": str(folder / "token")},
        "kubernetes": {"VAULT_KUBERNETES_ROLE": "books", "VAULT_KUBERNETES_TOKEN_FILE": str(folder / "token")},
        "token file": {"VAULT_TOKEN_FILE": str(folder / "token")},
    }[kind]


@pytest.mark.parametrize("kind", ["approle", "approle file", "kubernetes", "token file"])
def test_vault_is_logged_in_to(vault: Vault, tmp_path: Path, kind: str) -> None:
    environment = {"VAULT_ADDR": vault.url}
    log_in_by(kind, tmp_path, environment)
    vault.put("secret/key", k=SECRET)
    assert config.resolve("${vault:secret/key#k}", environment) == SECRET


def test_a_wrong_login_is_refused_by_name(vault: Vault) -> None:
    environment = {"VAULT_ADDR": vault.url, "VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": SECRET}
    with pytest.raises(ConfigError) as error:
        config.resolve("${vault:secret/key#k}", environment)
    assert str(error.value) == "${vault:secret/key#k}: Vault refuses it (InvalidRequest)"


def approle(vault: Vault, now: list[float]) -> VaultManager:
    environment = {"VAULT_ADDR": vault.url, "VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "id"}
    return VaultManager(environment, clock=lambda: now[0], sleep=lambda _: None)


def test_a_login_is_renewed_before_it_ends_and_not_earlier(vault: Vault) -> None:
    vault.put("secret/key", k=SECRET)
    now = [0.0]
    manager = approle(vault, now)
    for second in (0.0, 2399.0, 2400.0):
        now[0] = second
        manager.fetch(read("vault:secret/key#k"), "current")
    assert vault.asked.count("/v1/auth/approle/login") == 2


def test_a_login_that_was_revoked_is_renewed_once(vault: Vault) -> None:
    vault.put("secret/key", k=SECRET)
    manager = approle(vault, [0.0])
    manager.fetch(read("vault:secret/key#k"), "current")
    vault.tokens.clear()
    assert manager.fetch(read("vault:secret/key#k"), "current") == {"k": SECRET}
    vault.secrets.clear()

    class Nobody(set[str]):
        def add(self, element: str) -> None:
            """No token counts any more."""

    vault.tokens = Nobody()
    before = len(vault.asked)
    with pytest.raises(SecretError, match="403"):
        manager.fetch(read("vault:secret/key#k"), "current")
    assert len(vault.asked) - before == 3  # refused, logged in, refused


def test_vault_is_asked_three_times_when_it_fails(vault: Vault) -> None:
    manager = VaultManager({"VAULT_ADDR": vault.url, "VAULT_TOKEN": "root"}, sleep=lambda _: None)
    vault.fails = 503
    with pytest.raises(SecretError, match="can't answer now") as error:
        manager.fetch(read("vault:secret/key#k"), "current")
    assert error.value.is_transient
    assert len(vault.asked) == 3


# how long a value counts ---------------------------------------------------------------------------------------


class Recorded:
    """A manager whose answers the test sets."""

    def __init__(self) -> None:
        self.answer: Document | SecretError = "one"
        self.asked = 0

    def fetch(self, reference: Reference, version: Version) -> Document | None:
        self.asked += 1
        if isinstance(self.answer, SecretError):
            raise self.answer
        return self.answer


KEY = read("aws:key")


class Minutes:
    """A keeper over a recorded manager and a clock."""

    def __init__(self) -> None:
        self.now, self.manager = 0.0, Recorded()
        self.keeper = Keeper({}, {"aws": self.manager}, clock=lambda: self.now)

    def at(self, seconds: float) -> str:
        self.now = seconds
        return self.keeper.value(KEY)


def test_a_value_counts_for_a_minute() -> None:
    minutes = Minutes()
    assert minutes.at(0) == "one"
    minutes.manager.answer = "two"
    assert (minutes.at(keeping.TTL_SECONDS - 1), minutes.at(keeping.TTL_SECONDS)) == ("one", "two")
    assert minutes.manager.asked == 2


def test_a_value_that_expired_is_asked_for_anew() -> None:
    minutes = Minutes()
    minutes.at(0)
    minutes.manager.answer = "two"
    minutes.keeper.expire([KEY])
    assert minutes.at(1) == "two"


def test_the_last_value_stands_in_for_a_manager_that_is_not_reached_but_not_for_ever() -> None:
    minutes = Minutes()
    minutes.at(0)
    minutes.manager.answer = SecretError(KEY, "not reached", is_transient=True)
    assert minutes.at(keeping.TTL_SECONDS) == "one"
    assert minutes.at(keeping.TTL_SECONDS + keeping.PAUSE_SECONDS - 1) == "one"
    assert minutes.manager.asked == 2  # it is left alone for a while
    assert minutes.at(keeping.STALE_SECONDS - 1) == "one"
    with pytest.raises(SecretError, match=r"\$\{aws:key\}: not reached"):
        minutes.at(keeping.STALE_SECONDS)


def test_a_refusal_counts_at_once() -> None:
    minutes = Minutes()
    minutes.at(0)
    minutes.manager.answer = SecretError(KEY, "refused")
    with pytest.raises(SecretError, match="refused"):
        minutes.at(keeping.TTL_SECONDS)
    minutes.manager.answer = SecretError(KEY, "not reached", is_transient=True)
    with pytest.raises(SecretError, match="not reached"):
        minutes.at(keeping.TTL_SECONDS + 1)


def test_what_is_kept_does_not_show_itself() -> None:
    minutes = Minutes()
    minutes.at(0)
    assert "one" not in repr(minutes.keeper._kept)


def test_a_forked_process_remembers_nothing(vault: Vault) -> None:
    vault.put("secret/key", k="parent")
    config.resolve("${vault:secret/key#k}")
    child = os.fork()
    if child == 0:
        os._exit(0 if not keeper._kept and keeper._managers["vault"]._made is None else 1)  # type: ignore[attr-defined]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("text", "module", "extra"), [("${aws:k}", "boto3", "aws"), ("${vault:a/b#k}", "hvac", "vault")]
)
def test_a_missing_extra_is_named(text: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setattr(builtins, "__import__", without)
    assert refusal(text) == f"{text}: needs the extra {extra}: pip install 'ledger_pipeline[{extra}]'"
