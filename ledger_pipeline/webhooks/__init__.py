"""The receiver of webhooks: verify, store, answer. What an event leads to is not decided here."""
