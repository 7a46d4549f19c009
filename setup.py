"""The long description. Everything else is in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
# A package index has none of the files that relative links and pictures lead to: the link texts stay.
TEXT = re.sub(r"<picture>.*?</picture>\n*|\[!\[[^]]*\]\([^)]*\)\]\([^)]*\)\n*", "", README, flags=re.DOTALL)
TEXT = re.sub(r"\[([^\]]+)\]\((?![a-z]+://|#)[^)]+\)", r"\1", TEXT)

setup(long_description=TEXT, long_description_content_type="text/markdown")
