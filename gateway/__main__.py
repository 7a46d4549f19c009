"""Run the trading gateway."""

from servicekit import serve

if __name__ == "__main__":
    serve("gateway")
