"""Tasks of Celery that call the API of a mail service."""

import os

from celery import Celery

from cb import BreakerConfig, CircuitOpenError, Ledger, Registry  # guard
from cb.http import guarded_session  # guard

app = Celery("mailer", broker=os.environ["BROKER_URL"], backend=os.environ["BROKER_URL"])
app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)
rules = BreakerConfig(failure_threshold=5, timeout=2, success_threshold=1)  # guard
registry = Registry(ledger=Ledger.open("shm://mailer"), defaults=rules)  # guard
api = guarded_session(registry, "mail", timeout=2)  # guard


@app.task
def send(address):
    try:
        response = api.post(os.environ["VENDOR_URL"], json={"to": address})
    except CircuitOpenError:  # guard
        return os.getpid(), 503  # guard
    return os.getpid(), response.status_code
