"""Harbour & Pine, the sample company: what happened there on any day, as a pure function of a seed.

Belongs here: events and their ids. Does not: wire formats (`sources/*/sandbox.py`), bookkeeping (`sandbox/truth.py`).
"""

from .company import Company, changes, company_from
from .facts import BANK_RULES, CONNECTIONS, ENTITIES
from .orders import CUSTOMERS, customer_id

__all__ = ["BANK_RULES", "CONNECTIONS", "CUSTOMERS", "ENTITIES", "Company", "changes", "company_from", "customer_id"]
