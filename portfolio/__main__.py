"""Run the portfolio service."""

from servicekit import serve

if __name__ == "__main__":
    serve("portfolio")
