"""The sample company: what happened (events), how providers would report it (servers), and its own simple books (truth).

Nothing in here imports the code under test: no `model`, `connect`, `store`, `sources/*/spec` or `mapping`.
"""
