"""The table of breakers that threads and processes share, and its memory, files and locks."""
