"""The names that the settings file of this platform may hold."""

SERVICES = ("gateway", "portfolio", "market-data")
#: the one that users speak with
FRONT = "gateway"
#: made by the gateway; `database` is each service's own
BREAKERS = ("market-data", "portfolio", "risk", "notification", "audit", "database")
