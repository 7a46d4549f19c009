"""The resources of the audit and notification services."""

from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, current_app

from cb.ledger.semaphore import Permit, Semaphore
from gateway.http import authorization, pages
from gateway.http.problems import STORED
from gateway.http.schemas import AuditPageSchema, ComparisonSchema, NotificationsSchema, VerificationSchema
from gateway.services.audit_facts import read_facts
from gateway.services.audit_log import AuditLog, Recorded
from gateway.services.notifications import Inbox
from servicekit import Problem, ResponseSpec, operation
from servicekit.fields import Identifier

from .comparison_log import ComparisonLog

bp = Blueprint("records", __name__, url_prefix="/api/v1")
bp.before_request(authorization.check)


@dataclass(frozen=True, slots=True)
class Records:
    """What the views work with, in `app.extensions["history"]`."""

    audit: AuditLog
    inbox: Inbox
    comparisons: ComparisonLog
    #: one is taken while the audit log is verified: once at a time in each worker
    verifying: Semaphore = field(default_factory=lambda: Semaphore(Permit))


@bp.get("/audit/trades")
@operation(
    "listAudit",
    tag="audit",
    access="all-users",
    query=pages.paged(
        pages.number(), trade_id=Identifier(data_key="tradeId", load_default=None, metadata={"description": "Of one."})
    ),
    responses={200: pages.answer("A part of it.", AuditPageSchema())},
    problems=STORED,
)
def list_audit(trade_id: str | None, limit: int, after: int | None) -> Any:
    """List the moves of trades, the oldest first."""
    found = _records().audit.page(after or 0, limit + 1, trade_id)
    return pages.page("entries", [_recorded(each) for each in found], limit, lambda each: each["n"])


@bp.get("/audit/verify")
@operation(
    "verifyAudit",
    tag="audit",
    access="all-users",
    responses={200: ResponseSpec("What has been found.", VerificationSchema())},
    problems=STORED | {429: "`audit-being-verified`, one at a time, or `bulkhead-full`."},
)
def verify_audit() -> Any:
    """Work out anew whether the audit log is whole, which takes a while."""
    records = _records()
    slot = records.verifying.take(1)
    if slot is None:  # it takes long, and anybody may ask
        raise Problem(429, "audit-being-verified", "the audit log is being verified", headers={"Retry-After": "1"})
    try:
        return records.audit.verify()
    finally:
        records.verifying.give_back(slot)


@bp.get("/audit/comparison")
@operation(
    "readComparison",
    tag="audit",
    access="all-users",
    responses={200: ResponseSpec("The latest result.", ComparisonSchema())},
    problems=STORED,
)
def read_comparison() -> Any:
    """Tell whether gateway and portfolio agree on every settled trade.

    They are compared in the background, every few minutes. Differences are reported and not repaired.
    """
    return _records().comparisons.latest() or {"at": None, "trades": 0, "differences": 0, "examples": []}


_NOTIFICATIONS = {200: pages.answer("A part of them.", NotificationsSchema())}


@bp.get("/notifications")
@operation(
    "listAlerts",
    tag="notifications",
    access="all-users",
    query=pages.paged(pages.number()),
    responses=_NOTIFICATIONS,
    problems=STORED,
)
def list_alerts(limit: int, after: int | None) -> Any:
    """List what the operators were told, the newest first."""
    return _messages(None, limit, after)


@bp.get("/notifications/<user_id>")
@operation(
    "listNotifications",
    tag="notifications",
    access="users",
    path={"user_id": Identifier(data_key="userId", metadata={"examples": ["user123"]})},
    query=pages.paged(pages.number()),
    responses=_NOTIFICATIONS,
    problems=STORED,
)
def list_notifications(user_id: str, limit: int, after: int | None) -> Any:
    """List what a user was told, the newest first."""
    return _messages(user_id, limit, after)


def _messages(user_id: str | None, limit: int, after: int | None) -> Any:
    found = _records().inbox.page(user_id, limit + 1, after)
    return pages.page("notifications", found, limit, lambda each: each.id)


def _recorded(each: Recorded) -> dict[str, Any]:
    """Return an entry as it is listed. One that is damaged must not hide the others of its page."""
    facts, damage = read_facts(each.entry)
    chain = {"previous": _readable(each.previous), "hash": _readable(each.hash)}
    return {"n": each.n, **facts, **chain, "damage": damage}


def _readable(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _records() -> Records:
    records: Records = current_app.extensions["history"]
    return records
