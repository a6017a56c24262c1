"""Turns what a company's business systems say into audited books: pull, stage, check, post, reconcile, push."""

__version__ = "0.1.0"
