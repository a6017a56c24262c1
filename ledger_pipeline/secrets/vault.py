"""HashiCorp Vault and OpenBao, KV version 2, by hvac (the extra `vault`): with a token, AppRole or Kubernetes.

Address, namespace and certificates are taken from VAULT_ADDR, VAULT_NAMESPACE and VAULT_CACERT. A token that was had by logging in is
replaced when two thirds of its time have passed, or once when it is refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_pipeline.secrets.references import Reference, SecretError

if TYPE_CHECKING:
    from ledger_pipeline.secrets.keeper import Document, Version

TIMEOUT_SECONDS = 5
ATTEMPTS = 3
KUBERNETES_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
_LOGINS = "VAULT_TOKEN, VAULT_TOKEN_FILE, VAULT_ROLE_ID with VAULT_SECRET_ID or VAULT_SECRET_ID_FILE, or VAULT_KUBERNETES_ROLE"


class Manager:
    """One client and one login per process."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._clock, self._sleep = clock, sleep
        self._made: Any = None
        self._renew_at: float | None = None

    def fetch(self, reference: Reference, version: Version) -> Document | None:
        """The secret's fields; None where there is no previous version, or it was deleted."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._fetched(reference, version)
            except SecretError as error:
                if not error.is_transient or attempt == ATTEMPTS:
                    raise
            self._sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable")

    def _fetched(self, reference: Reference, version: Version) -> Document | None:
        client = self._client(reference)
        try:
            return self._read(client, reference, version)
        except _exceptions(reference).Forbidden:
            if self._renew_at is None:
                raise SecretError(reference, "Vault refuses it (403)") from None
        self._made = None  # the login may have been revoked before its time
        try:
            return self._read(self._client(reference), reference, version)
        except _exceptions(reference).Forbidden:
            raise SecretError(reference, "Vault refuses it (403), also after a new login") from None

    def _read(self, client: Any, reference: Reference, version: Version) -> Document | None:
        newest: tuple[dict[str, Any], int] | None = self._asked(reference, lambda: _version(client, reference, None))
        if newest is None:
            raise SecretError(reference, "Vault has no such secret, or it was deleted")
        if version == "current":
            return newest[0]
        if newest[1] < 2:
            return None
        older: tuple[dict[str, Any], int] | None = self._asked(
            reference, lambda: _version(client, reference, newest[1] - 1)
        )
        return None if older is None else older[0]

    def _asked(self, reference: Reference, ask: Callable[[], Any]) -> Any:
        """An answer, or the error that it is; Forbidden goes through."""
        import requests

        exceptions = _exceptions(reference)
        try:
            return ask()
        except exceptions.Forbidden:
            raise
        except (
            exceptions.InternalServerError,
            exceptions.BadGateway,
            exceptions.VaultDown,
            exceptions.RateLimitExceeded,
        ) as error:
            message = f"Vault can't answer now ({type(error).__name__})"
            raise SecretError(reference, message, is_transient=True) from None
        except exceptions.VaultError as error:
            raise SecretError(reference, f"Vault refuses it ({type(error).__name__})") from None
        except requests.RequestException as error:
            raise SecretError(reference, f"Vault was not reached ({type(error).__name__})", is_transient=True) from None

    def _client(self, reference: Reference) -> Any:
        if self._made is not None and (self._renew_at is None or self._clock() < self._renew_at):
            return self._made
        exceptions = _exceptions(reference)
        import hvac

        given = self._environment
        if not given.get("VAULT_ADDR"):
            raise SecretError(reference, "VAULT_ADDR is not set")
        verify = given.get("VAULT_CACERT") or given.get("VAULT_CAPATH") or True
        client = hvac.Client(
            given["VAULT_ADDR"], "", namespace=given.get("VAULT_NAMESPACE"), timeout=TIMEOUT_SECONDS, verify=verify
        )
        try:
            lease = self._asked(reference, lambda: self._log_in(client, reference))
        except exceptions.Forbidden:
            raise SecretError(reference, "Vault refuses the login (403)") from None
        self._made, self._renew_at = client, None if lease is None else self._clock() + lease * 2 / 3
        return client

    def _log_in(self, client: Any, reference: Reference) -> float | None:
        """Seconds that the login lasts; None for a token that somebody else looks after."""
        given = self._environment
        if given.get("VAULT_TOKEN"):
            client.token = given["VAULT_TOKEN"]
            return None
        if given.get("VAULT_TOKEN_FILE"):
            client.token = _text(reference, given["VAULT_TOKEN_FILE"])
            return 60.0  # an agent replaces the file
        if given.get("VAULT_ROLE_ID"):
            secret = given.get("VAULT_SECRET_ID") or _text(reference, given.get("VAULT_SECRET_ID_FILE", ""))
            answer = client.auth.approle.login(
                given["VAULT_ROLE_ID"], secret, mount_point=given.get("VAULT_AUTH_MOUNT", "approle")
            )
        elif given.get("VAULT_KUBERNETES_ROLE"):
            token = _text(reference, given.get("VAULT_KUBERNETES_TOKEN_FILE", KUBERNETES_TOKEN))
            answer = client.auth.kubernetes.login(
                given["VAULT_KUBERNETES_ROLE"], token, mount_point=given.get("VAULT_AUTH_MOUNT", "kubernetes")
            )
        else:
            raise SecretError(reference, f"Vault needs a login: {_LOGINS}")
        return float(answer["auth"]["lease_duration"]) or None


def _version(client: Any, reference: Reference, version: int | None) -> tuple[dict[str, Any], int] | None:
    """(fields, number) of a version, the newest for None; None where it isn't there."""
    try:
        answer = client.secrets.kv.v2.read_secret_version(
            reference.path, version, mount_point=reference.mount, raise_on_deleted_version=True
        )
    except _exceptions(reference).InvalidPath:
        return None
    return answer["data"]["data"], int(answer["data"]["metadata"]["version"])


def _text(reference: Reference, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(
            reference, f"Vault's login can't be read from {path or 'no file'} ({type(error).__name__})"
        ) from None


def _exceptions(reference: Reference) -> Any:
    try:
        from hvac import exceptions
    except ImportError:
        raise SecretError(reference, "needs the extra vault: pip install 'ledger_pipeline[vault]'") from None
    return exceptions
