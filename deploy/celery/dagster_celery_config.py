"""How a Celery worker of Dagster is run so that a lost machine loses no step: put this folder on the worker's PYTHONPATH.

A step is acknowledged when it has ended, not when it is taken; what a lost worker leaves is given to another one. Steps may be executed twice
then, which the ledger expects: nothing is posted twice.
"""

from __future__ import annotations

import os

broker_url = os.environ["LEDGER_BROKER_URL"]
result_backend = os.environ["LEDGER_RESULT_URL"]
task_acks_late = True
task_reject_on_worker_lost = True
worker_prefetch_multiplier = 1
broker_connection_retry_on_startup = True
broker_transport_options = {
    # Redis only: after so many seconds without an acknowledgement a step counts as lost. Longer than the longest step;
    # RabbitMQ knows at once, but ends what takes longer than its `consumer_timeout`.
    "visibility_timeout": int(os.environ.get("LEDGER_LOST_AFTER_SECONDS", "3600")),
}
result_expires = 86_400
