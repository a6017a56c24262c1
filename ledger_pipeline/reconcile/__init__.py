"""Matching of what two sides say about the same money, and what stays open.

`engine` matches members without knowing what they are; `clearing` reads them from the books; `matches` keeps what was found and decided;
`open_items` says why an account isn't zero; `payouts` holds each payout against its transactions and the bank.
"""
