"""The resources of the audit and notification services."""

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, current_app, request

from cb.web import Problem, check_id

from .audit_log import AuditLog, Recorded
from .inbox import Inbox, Notified
from .pages import only, page, read_cursor, read_limit

bp = Blueprint("records", __name__, url_prefix="/api/v1")


@dataclass(frozen=True, slots=True)
class Records:
    """What the views work with, in `app.extensions["records"]`."""

    audit: AuditLog
    inbox: Inbox
    #: held while the audit log is verified: once at a time in each worker
    verifying: threading.Lock = field(default_factory=threading.Lock)


@bp.get("/audit/trades")
def list_audit() -> Any:
    only("tradeId", "limit", "after")
    trade_id, limit = request.args.get("tradeId"), read_limit()
    if trade_id is not None:
        check_id("tradeId", trade_id, where="query")
    found = _records().audit.page(read_cursor(_number) or 0, limit + 1, trade_id)
    return page("entries", found, limit, _recorded, lambda each: each.n)


@bp.get("/audit/verify")
def verify_audit() -> Any:
    records = _records()
    if not records.verifying.acquire(blocking=False):  # it takes long, and anybody may ask
        raise Problem(429, "audit-being-verified", "the audit log is being verified", headers={"Retry-After": "1"})
    try:
        seen = records.audit.verify()
    finally:
        records.verifying.release()
    return {
        "valid": seen.broken_at is None,
        "entries": seen.head.n,
        "head": seen.head.hash,
        "brokenAt": seen.broken_at,
        "fault": seen.fault,
    }


@bp.get("/notifications")
def list_alerts() -> Any:
    return _messages(None)


@bp.get("/notifications/<user_id>")
def list_notifications(user_id: str) -> Any:
    return _messages(check_id("userId", user_id))


def _messages(user_id: str | None) -> Any:
    only("limit", "after")
    limit = read_limit()
    found = _records().inbox.page(user_id, limit + 1, read_cursor(_number))
    return page("notifications", found, limit, _notified, lambda each: each.id)


def _number(cursor: Any) -> int:
    if not isinstance(cursor, int) or not 0 <= cursor < 2**63:
        raise ValueError(cursor)
    return cursor


def _recorded(each: Recorded) -> dict[str, Any]:
    return {"n": each.n, **json.loads(each.entry), "previous": each.previous, "hash": each.hash}


def _notified(each: Notified) -> dict[str, Any]:
    message = each.message
    return {
        "id": each.id,
        "kind": message.kind,
        "text": message.text,
        "tradeId": message.trade_id,
        "at": message.at.isoformat(),
    }


def _records() -> Records:
    records: Records = current_app.extensions["records"]
    return records
