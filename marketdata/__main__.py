"""Run the market data service."""

from cb.web import serve

if __name__ == "__main__":
    serve("marketdata")
