"""The trade protocol: intent, settlement, reconciliation, and the outbox."""
