"""The site is built without a complaint, has all public names, and is shown without asking another host."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.browser import chromium, installed
from scripts.docs.names import REFERENCE
from tests.docs.pages import ROOT

#: parts of the library that the reference has, and what is not shown of each
PARTS = {
    "cb": (),
    "cb.fleet": (),
    "cb.http": (),
    "cb.resilience": (),
    "cb.integrations.opentelemetry": (),
    "servicekit": ("fields",),  # a module, for the services
}


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
    assert 'href="source/config/config.yaml.html"' in (site / "platform.html").read_text()
    assert "proxy_pass" in (site / "source/config/nginx.conf.html").read_text()
    html = (site / "reference/cb.html").read_text()
    assert "Failure rate in the window that opens." in html
    empty = re.findall(
        r'id="(cb\.[\w.]+)" class="doc doc-heading">(?:(?!</h\d>).)*</h\d>(?:(?!<p>|id=").)*(?=id=")', html, re.DOTALL
    )
    assert not empty


@pytest.mark.parametrize("part", PARTS)
def test_reference_has_every_public_name(part: str) -> None:
    modules = {f"cb.{name}" for name in ("metrics", "sql", "testing")} | PARTS.keys()
    names = {f"{part}.{name}" for name in importlib.import_module(part).__all__ if name not in PARTS[part]}
    listed = set(re.findall(r"^::: (\S+)$", "\n".join(p.read_text() for p in REFERENCE.glob("*.md")), re.MULTILINE))
    assert names == {name for name in listed if name.rpartition(".")[0] == part and name not in modules}


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
