"""Secret managers on loopback: moto's server for AWS, an emulation for Vault; and a process that remembers no secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ledger_pipeline.secrets.keeper import keeper
from ledger_pipeline_tests.secrets import vault_server
from ledger_pipeline_tests.secrets.vault_server import Vault


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    keeper.forget()
    yield
    keeper.forget()


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """Vault with the token `root` in the environment."""
    with vault_server.running() as made:
        for name in ("VAULT_NAMESPACE", "VAULT_TOKEN_FILE", "VAULT_ROLE_ID", "VAULT_KUBERNETES_ROLE", "VAULT_CACERT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("VAULT_ADDR", made.url)
        monkeypatch.setenv("VAULT_TOKEN", "root")
        yield made


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """moto's server, once per test process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """boto3's client of an empty Secrets Manager; the environment leads ours to the same."""
    import boto3
    import requests

    requests.post(f"{moto_url}/moto-api/reset", timeout=10).raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto_url)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return boto3.client("secretsmanager")
