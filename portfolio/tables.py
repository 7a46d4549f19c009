"""Tables of accounts, settled trades, and the entries that change balances.

A filled trade has four entries, which sum to zero per asset: cash and shares, of the user and of the market. A user's
balances are the opening cash plus the user's entries.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, MetaData, String, Table

from servicekit.database import Instant, Money

#: counterparty of every trade; not a valid user id
MARKET = "@market"
#: asset name of cash; not a valid symbol
CASH = "$"

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("opening_cash", Money, nullable=False),
    Column("cash", Money, CheckConstraint("cash >= 0"), nullable=False),
    Column("opened_at", Instant, nullable=False),
)
positions = Table(
    "positions",
    metadata,
    Column("user_id", ForeignKey("accounts.user_id"), primary_key=True),
    Column("symbol", String(12), primary_key=True),
    Column("quantity", BigInteger, CheckConstraint("quantity >= 0"), nullable=False),
)
trades = Table(
    "trades",
    metadata,
    Column("trade_id", String(64), primary_key=True),
    Column("user_id", ForeignKey("accounts.user_id"), nullable=False),
    Column("symbol", String(12), nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("side", String(4), nullable=False),
    Column("price", Money, nullable=False),
    Column("outcome", String(12), nullable=False),
    Column("code", String(40)),
    Column("detail", String(300)),
    Column("applied_at", Instant, nullable=False),
)
entries = Table(
    "entries",
    metadata,
    Column("trade_id", ForeignKey("trades.trade_id"), primary_key=True),
    Column("holder", String(64), primary_key=True),
    Column("asset", String(12), primary_key=True),
    Column("amount", Money, nullable=False),
)
