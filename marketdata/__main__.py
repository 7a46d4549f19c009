"""Run the market data service."""

from servicekit import serve

if __name__ == "__main__":
    serve("marketdata")
