"""AWS Secrets Manager, by boto3 (the extra `aws`) and its usual credentials, region and endpoint.

A secret's current version is read whole; `previous` is the one that a rotation replaced (AWSPREVIOUS).
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from ledger_pipeline.secrets.references import Reference, SecretError

if TYPE_CHECKING:
    from ledger_pipeline.secrets.keeper import Document, Version

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 3, 5, 3
_STAGES = {"current": "AWSCURRENT", "previous": "AWSPREVIOUS"}
_TRANSIENT = frozenset({"InternalServiceError", "ThrottlingException", "RequestTimeout", "ServiceUnavailable"})


class Manager:
    """One client per process."""

    def __init__(self) -> None:
        self._made: Any = None

    def fetch(self, reference: Reference, version: Version) -> Document | None:
        """The secret's text, or its fields where it is a JSON object; None where there is no previous version."""
        client = self._client(reference)
        from botocore import exceptions

        try:
            answer = client.get_secret_value(SecretId=reference.place, VersionStage=_STAGES[version])
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if version == "previous" and code == "ResourceNotFoundException":
                return None
            message = f"AWS Secrets Manager refuses it ({code})"
            raise SecretError(reference, message, is_transient=code in _TRANSIENT or status >= 500) from None
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            message = f"AWS Secrets Manager was not reached ({type(error).__name__})"
            raise SecretError(reference, message, is_transient=True) from None
        except exceptions.BotoCoreError as error:
            raise SecretError(reference, f"boto3 isn't set up for it ({type(error).__name__})") from None
        return _document(reference, answer)

    def _client(self, reference: Reference) -> Any:
        if self._made is None:
            try:
                import boto3
                from botocore.config import Config
                from botocore.exceptions import BotoCoreError
            except ImportError:
                raise SecretError(reference, "needs the extra aws: pip install 'ledger_pipeline[aws]'") from None
            for name in ("boto3", "botocore"):  # at DEBUG they log whole answers
                logging.getLogger(name).setLevel(max(logging.getLogger(name).level, logging.INFO))
            settings = Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            )
            try:
                self._made = boto3.session.Session().client("secretsmanager", config=settings)
            except BotoCoreError as error:
                raise SecretError(reference, f"boto3 isn't set up for it ({type(error).__name__})") from None
        return self._made


def _document(reference: Reference, answer: dict[str, Any]) -> Document:
    text = answer.get("SecretString")
    if text is None:
        try:
            text = bytes(answer["SecretBinary"]).decode()
        except UnicodeDecodeError:
            raise SecretError(reference, "the secret is binary and not UTF-8") from None
    if not reference.key:
        return str(text)
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise SecretError(reference, "the secret is no JSON object, so it has no keys")
    return fields
