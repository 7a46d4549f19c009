"""The sdist and the wheel: what is in them, and what a package index will say of them."""

import email
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import cb
from tests.packaging.conftest import ROOT, Built, run, tracked

#: what the wheel has below cb/demo, and what of that
PLATFORM = {
    "gateway": ".py",
    "portfolio": ".py",
    "marketdata": ".py",
    "scripts": ".py",
    "config": ("config.yaml", "gunicorn.conf.py"),
}


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(opened.read(name))


def test_wheel_has_the_library_with_its_data_and_the_platform_and_nothing_else(built: Built) -> None:
    names = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    platform = {
        f"cb/demo/{name}"
        for place, wanted in PLATFORM.items()
        for name in tracked(place)
        if name.endswith(wanted) and not name.startswith("scripts/docs/")
    }
    assert names == {*tracked("cb"), *platform}
    assert {
        "cb/py.typed",
        "cb/fleet/sync.lua",
        "cb/integrations/flask/page/page.html",
        "cb/demo/config/config.yaml",
    } < names


def test_sdist_has_all_that_git_has(built: Built) -> None:
    with tarfile.open(built.sdist) as opened:
        names = {member.name.partition("/")[2] for member in opened if member.isfile()}
    made = {name for name in names if ".egg-info/" in name} | {"PKG-INFO"}
    assert names - made == set(tracked())


def test_wheel_of_the_sdist_is_that_of_the_checkout(built: Built) -> None:
    assert built.wheel.name == built.direct.name
    assert built.wheel.read_bytes() == built.direct.read_bytes()


def test_checkers_find_nothing(built: Built) -> None:
    checked = run([sys.executable, "-m", "twine", "--no-color", "check", "--strict", built.sdist, built.wheel])
    assert checked.count("PASSED") == 2
    # In the checkout, where its settings are.
    run([Path(sys.executable).with_name("check-wheel-contents"), built.wheel], cwd=ROOT)


def test_version_is_said_once(built: Built) -> None:
    assert metadata(built.wheel)["Version"] == cb.__version__
    assert f"-{cb.__version__}" in built.sdist.name
    elsewhere = [
        name
        for name in tracked("cb", "gateway", "portfolio", "marketdata", "scripts", "setup.cfg", "setup.py", "Makefile")
        if re.search(rf"\b{re.escape(cb.__version__)}\b", (ROOT / name).read_text(errors="replace"))
    ]
    assert elsewhere == ["cb/__init__.py"]


def test_text_for_a_package_index_has_no_link_that_leads_nowhere_there(built: Built) -> None:
    text = str(metadata(built.wheel).get_payload())
    assert text.startswith("# Distributed circuit breaker\n")
    assert "docs/security.md has what keeps others out" in text
    assert not re.findall(r"\]\((?![a-z]+://|#)[^)]*\)|<img|<picture|srcset", text)


def test_metadata_says_what_users_choose_by(built: Built) -> None:
    said = metadata(built.wheel)
    assert said["Requires-Python"] == ">=3.11"
    assert said["License-Expression"] == "MIT"
    assert {"http", "web", "redis", "resilience", "database", "postgres", "otel", "cli", "demo"} < set(
        said.get_all("Provides-Extra", [])
    )
    classifiers = said.get_all("Classifier", [])
    assert {"Development Status :: 5 - Production/Stable", "Framework :: Flask", "Typing :: Typed"} < set(classifiers)
    assert not [need for need in said.get_all("Requires-Dist", []) if "extra ==" not in need], "the core needs nothing"
    assert not said.get_all("Project-URL", []), "there is no public address yet"
