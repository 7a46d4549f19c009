"""The table of breakers that threads and processes share: its memory, files and locks."""
