"""Run the trading gateway."""

from cb.web import serve

if __name__ == "__main__":
    serve("gateway")
