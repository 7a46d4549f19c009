"""The site builds without a warning, has all public names, and loads nothing from another host."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from scripts.browser import chromium, installed
from scripts.docs.names import REFERENCE
from tests.support import ROOT

#: public modules; a name that several of them export is on the page of the first
PARTS = (
    *("cb", "cb.fleet", "cb.http", "cb.resilience", "cb.testing"),
    *(
        f"cb.integrations.{name}"
        for name in ("flask", "django", "celery", "opentelemetry", "prometheus", "redis", "sqlalchemy")
    ),
    "servicekit",
)
#: every name of the reference, without the modules themselves
LISTED = [
    name.rpartition(".")
    for page in REFERENCE.glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    if name not in PARTS
]


def public_names(module: ModuleType) -> list[str]:
    """Return `__all__` of a module, or the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and isinstance(value, FunctionType | type) and value.__module__ == module.__name__
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site, built as `make docs` does."""
    directory = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        directory,
    ]  # quiet, it would not count
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return directory


def test_site_has_what_pages_link_to_and_a_word_on_every_name_of_the_library(site: Path) -> None:
    assert "<h1" in (site / "changelog.html").read_text()
    assert 'href="source/config/config.yaml.html"' in (site / "configuration.html").read_text()
    assert "proxy_pass" in (site / "source/config/nginx.conf.html").read_text()
    html = (site / "reference/cb.html").read_text()
    assert "Rate of failures in the window that opens it." in html  # of a comment
    assert "Parameters:" in html  # a docstring with `Args:`
    empty = re.findall(
        r'id="(cb\.[\w.]+)" class="doc doc-heading">(?:(?!</h\d>).)*</h\d>(?:(?!<p>|id=").)*(?=id=")', html, re.DOTALL
    )
    assert not empty


@pytest.mark.parametrize("part", PARTS)
def test_reference_has_every_public_name_of_a_part(part: str) -> None:
    module, *earlier = map(importlib.import_module, (part, *PARTS[: PARTS.index(part)]))
    public = {name: getattr(module, name) for name in public_names(module)}
    known = {(name, id(getattr(each, name))) for each in earlier for name in public_names(each)}
    listed = {name for path, _, name in LISTED if path == part}
    assert listed == {
        name for name, value in public.items() if (name, id(value)) not in known and not isinstance(value, ModuleType)
    }


@pytest.mark.skipif(not installed(), reason="there is no browser")
def test_pages_ask_no_other_host_and_make_no_error(site: Path) -> None:
    asked, errors = [], []
    with chromium() as browser:
        for name, scheme in (("index", "light"), ("reference/cb", "dark")):
            page = browser.new_page(color_scheme=scheme)
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: errors.append(message.text))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto((site / f"{name}.html").as_uri())
            assert page.locator("h1").is_visible()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not errors
