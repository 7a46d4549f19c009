"""Helpers for the tests of several rooms."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
