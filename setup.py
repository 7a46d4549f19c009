"""Which directories are packages, and what a package index shows. All else is said in setup.cfg.

The platform's directories lie beside `cb` in a checkout. In the wheel they lie below `cb.demo`, as they stand, so that
no name as common as `config` or `scripts` gets into anybody's environment.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

PLATFORM = ("gateway", "portfolio", "marketdata", "scripts", "config")
README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
# A package index has no files to which a relative link could lead: it keeps the words, and loses the pictures.
WORDS = re.sub(r"<picture>.*?</picture>\n*|\[!\[[^]]*\]\([^)]*\)\]\([^)]*\)\n*", "", README, flags=re.DOTALL)
WORDS = re.sub(r"\[([^\]]+)\]\((?![a-z]+://|#)[^)]+\)", r"\1", WORDS)

setup(
    long_description=WORDS,
    long_description_content_type="text/markdown",
    packages=[
        *find_packages(include=["cb", "cb.*"]),
        # Not scripts.docs, which makes the site.
        *(f"cb.demo.{name}" for name in find_packages(include=["gateway*", "portfolio*", "marketdata*", "scripts"])),
        "cb.demo.config",
    ],
    package_dir={f"cb.demo.{name}": name for name in PLATFORM},
)
