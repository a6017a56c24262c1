"""What each canonical record posts, declared as data, and the one engine that executes it."""

from ledger_pipeline.model.rules.policy import RULES
from ledger_pipeline.model.rules.rule import Ignore, Post, Rule

__all__ = ["RULES", "Ignore", "Post", "Rule"]
