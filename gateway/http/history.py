"""Resources for audit entries, comparison results and notifications."""

from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, current_app

from gateway.services.audit_facts import read_facts
from gateway.services.audit_log import AuditEntry, AuditLog
from gateway.services.notifications import Notifications
from gateway.trading.comparison_log import ComparisonLog
from servicekit import Problem, ResponseSpec, operation
from servicekit.exclusive import BusyError, Exclusive
from servicekit.fields import Identifier

from . import authorization, pages
from .problems import STORED
from .schemas import AuditPageSchema, ComparisonSchema, NotificationsSchema, VerificationSchema

bp = Blueprint("history", __name__, url_prefix="/api/v1")
bp.before_request(authorization.check)


@dataclass(frozen=True, slots=True)
class HistoryContext:
    """Objects used by the views, in `app.extensions["history"]`."""

    audit: AuditLog
    notifications: Notifications
    comparisons: ComparisonLog
    #: each worker verifies the audit log at most once at a time
    verification: Exclusive = field(default_factory=Exclusive)


@bp.get("/audit/trades")
@operation(
    "listAudit",
    tag="audit",
    access="all-users",
    query=pages.paged(
        pages.number_cursor(),
        trade_id=Identifier(data_key="tradeId", load_default=None, metadata={"description": "Of this trade only."}),
    ),
    responses={200: pages.page_response("A page of the audit log.", AuditPageSchema())},
    problems=STORED,
)
def list_audit(trade_id: str | None, limit: int, after: int | None) -> Any:
    """List the moves of trades, oldest first."""
    found = _context().audit.page(after or 0, limit + 1, trade_id)
    return pages.page("entries", [_readable_entry(each) for each in found], limit, lambda each: each["n"])


@bp.get("/audit/verify")
@operation(
    "verifyAudit",
    tag="audit",
    access="all-users",
    responses={200: ResponseSpec("The result of the verification.", VerificationSchema())},
    problems=STORED | {429: "`audit-being-verified`: a verification is running; or `bulkhead-full`."},
)
def verify_audit() -> Any:
    """Verify the whole audit log, which takes a while."""
    context = _context()
    try:
        return context.verification.run(context.audit.verify)
    except BusyError as error:  # a verification reads the whole log
        detail = "the audit log is being verified"
        raise Problem(429, "audit-being-verified", detail, headers={"Retry-After": "1"}) from error


@bp.get("/audit/comparison")
@operation(
    "readComparison",
    tag="audit",
    access="all-users",
    responses={200: ResponseSpec("The latest result.", ComparisonSchema())},
    problems=STORED,
)
def read_comparison() -> Any:
    """Read the latest comparison of all settled trades between gateway and portfolio.

    A background task compares them every few minutes. Differences are reported, not repaired.
    """
    return _context().comparisons.latest() or {"at": None, "trades": 0, "differences": 0, "examples": []}


_NOTIFICATIONS = {200: pages.page_response("A page of notifications.", NotificationsSchema())}


@bp.get("/notifications")
@operation(
    "listAlerts",
    tag="notifications",
    access="all-users",
    query=pages.paged(pages.number_cursor()),
    responses=_NOTIFICATIONS,
    problems=STORED,
)
def list_alerts(limit: int, after: int | None) -> Any:
    """List the notifications of the operators, newest first."""
    return _page_of(None, limit, after)


@bp.get("/notifications/<user_id>")
@operation(
    "listNotifications",
    tag="notifications",
    access="users",
    path={"user_id": Identifier(data_key="userId", metadata={"examples": ["user123"]})},
    query=pages.paged(pages.number_cursor()),
    responses=_NOTIFICATIONS,
    problems=STORED,
)
def list_notifications(user_id: str, limit: int, after: int | None) -> Any:
    """List the notifications of a user, newest first."""
    return _page_of(user_id, limit, after)


def _page_of(user_id: str | None, limit: int, after: int | None) -> Any:
    found = _context().notifications.page(user_id, limit + 1, after)
    return pages.page("notifications", found, limit, lambda each: each.id)


def _readable_entry(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry for the list. A damaged entry must not hide the others of its page."""
    facts, damage = read_facts(entry.facts)
    chain = {"previous": _readable(entry.previous), "hash": _readable(entry.hash)}
    return {"n": entry.n, **facts, **chain, "damage": damage}


def _readable(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _context() -> HistoryContext:
    context: HistoryContext = current_app.extensions["history"]
    return context
