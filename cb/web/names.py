"""The names that the settings file of this platform may hold."""

SERVICES = ("gateway", "portfolio", "market-data")
#: all of them made by the gateway
BREAKERS = ("market-data", "portfolio", "risk", "notification", "audit")
