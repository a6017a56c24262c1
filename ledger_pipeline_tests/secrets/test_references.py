"""How references are written, and what is said about those that can't be read."""

from __future__ import annotations

import pytest

from ledger_pipeline.secrets.references import BadReference, Reference, read, references, replaced


@pytest.mark.parametrize(
    ("inner", "reference"),
    [
        ("STRIPE_KEY", Reference("env", "STRIPE_KEY")),
        ("env:STRIPE_KEY", Reference("env", "STRIPE_KEY")),
        ("URL:-http://127.0.0.1:8400", Reference("env", "URL", default="http://127.0.0.1:8400")),
        ("env:A:-", Reference("env", "A", default="")),
        ("file:/run/secrets/stripe", Reference("file", "/run/secrets/stripe")),
        ("aws:prod/stripe", Reference("aws", "prod/stripe")),
        ("aws:prod/stripe#api_key", Reference("aws", "prod/stripe", "api_key")),
        (
            "aws:arn:aws:secretsmanager:eu-central-1:123456789012:secret:stripe-AbCdEf#k",
            Reference("aws", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:stripe-AbCdEf", "k"),
        ),
        ("vault:secret/books/stripe#api_key", Reference("vault", "secret/books/stripe", "api_key")),
    ],
)
def test_a_reference_is_read(inner: str, reference: Reference) -> None:
    assert read(inner) == reference


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("STRIPE-KEY", "${STRIPE-KEY} is no reference; write ${NAME}"),
        ("gcp:projects/1", "${gcp:projects/1} is no reference"),
        ("STRIPE-KEY:-sk_live_hunter2", "${STRIPE-KEY} is no reference"),
        ("file:stripe.key", "the file's path must begin with /"),
        ("file:/run/key:-sk_live_hunter2", "${file:/run/key}: only a variable may have a default"),
        ("aws:", "the secret is missing"),
        ("aws:stripe#", "the key after # is missing"),
        ("vault:secret#key", "Vault's are written ${vault:mount/path#key}"),
        ("vault:secret/stripe", "Vault's are written"),
    ],
)
def test_what_is_no_reference_is_named_without_its_default(inner: str, said: str) -> None:
    with pytest.raises(BadReference) as error:
        read(inner)
    assert said in str(error.value)
    assert "hunter2" not in str(error.value)


def test_references_stand_anywhere_in_a_text() -> None:
    node = {"a": ["x${A}y", {"b": "${file:/f}"}], "c": 5, "d": "${}"}
    assert [str(one) for one in references(node)] == ["${env:A}", "${file:/f}"]
    assert replaced(node, lambda one: one.place) == {"a": ["xAy", {"b": "/f"}], "c": 5, "d": "${}"}
