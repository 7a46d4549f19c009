"""What the documentation's site has that no page says by itself."""
