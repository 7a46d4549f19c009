"""What a guarded call costs, next to other libraries. `make bench` runs it."""
