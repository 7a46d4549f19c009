"""The default ledger of a project: one name from each of its programs, and no other project's."""

import os
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from cb.ledger.project import ledger_name, project_root

SITE = "venv/lib/python3.11/site-packages"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return Path(os.path.realpath(tmp_path))


def make(home: Path, *files: str) -> None:
    for each in files:
        (home / each).parent.mkdir(parents=True, exist_ok=True)
        (home / each).touch()


def root_of(file: Path, package: str | None = None) -> Path:
    return Path(project_root({"__file__": str(file), "__package__": package}))


@pytest.mark.parametrize(
    ("files", "file", "package", "root"),
    [
        (["shop/app.py"], "shop/app.py", "", "shop"),
        (["shop/shop/__init__.py", "shop/shop/web/__init__.py"], "shop/shop/web/app.py", "shop.web", "shop"),
        (["shop/shop/__init__.py", "shop/manage.py"], "shop/shop/celery.py", None, "shop"),
        (["shop/shop/__init__.py"], "shop/shop/__init__.py", "shop", "shop"),
        (["shop/services/pay/app.py"], "shop/services/pay/app.py", "services.pay", "shop"),  # without __init__.py
        (["shop/pyproject.toml", "shop/src/shop/__init__.py"], "shop/src/shop/app.py", "shop", "shop"),
        (["shop/requirements.txt", "shop/scripts/clean.py"], "shop/scripts/clean.py", None, "shop"),
        (["tools/clean.py"], "tools/clean.py", None, "tools"),  # no project around it
        (["shop/.git", "shop/__init__.py"], "shop/app.py", "", "shop"),
        (["shop/releases/1/app.py"], "shop/releases/1/app.py", "", "shop"),
        ([f"{SITE}/shop/__init__.py"], f"{SITE}/shop/web/app.py", "shop.web", f"{SITE}/shop"),
        ([f"{SITE}/shop.py"], f"{SITE}/shop.py", "", f"{SITE}/shop.py"),
        ([f"{SITE}/acme/shop/__init__.py"], f"{SITE}/acme/shop/app.py", "acme.shop", f"{SITE}/acme/shop"),
    ],
)
def test_module_belongs_to_the_directory_out_of_its_packages_or_to_its_distribution(
    home: Path, files: list[str], file: str, package: str | None, root: str
) -> None:
    make(home, *files, file)
    assert root_of(home / file, package) == home / root


def test_symbolic_links_to_a_project_are_the_project(home: Path) -> None:
    make(home, "shop/app.py", "releases/2/app.py")
    (home / "link").symlink_to("shop")
    (home / "current").symlink_to("releases/2")
    assert root_of(home / "link/app.py") == home / "shop"
    assert root_of(home / "current/app.py") == home


def test_archive_is_a_project_of_its_own(home: Path) -> None:
    with ZipFile(home / "shop.pyz", "w") as archive:
        archive.writestr("shop/__init__.py", "")
    assert root_of(home / "shop.pyz/shop/__init__.py", "shop") == root_of(home / "shop.pyz/__main__.py")
    assert ledger_name(project_root({"__file__": str(home / "shop.pyz/__main__.py")})).startswith("shop-")


def test_code_without_a_file_belongs_to_the_working_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(home, "shop/shop/__init__.py")
    monkeypatch.chdir(home / "shop/shop")
    for namespace in ({}, {"__file__": None}, {"__file__": "app.py"}, {"__file__": ""}):
        assert project_root(namespace) == str(home / "shop")


def test_frozen_program_is_a_project_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert project_root({"__file__": "/tmp/_MEI12345/app.py"}) == os.path.realpath(sys.executable)


def test_removed_working_directory_costs_the_name_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert project_root({})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("shop", "shop"),
        ("my shop", "my_shop"),
        ("größe", "gr__e"),
        ("商店", "project"),
        ("-x", "x"),
        ("..hidden", "hidden"),
        ("a" * 200, "a" * 31),
        ("shop.py", "shop"),
        ("shop.v2", "shop.v2"),
        ("line\nbreak", "line_break"),
        ("\udcff", "project"),
        ("", "project"),
    ],
)
def test_name_of_a_ledger_is_that_of_the_project_as_far_as_a_file_may_have_it(name: str, shown: str) -> None:
    found, _, digest = ledger_name(f"/srv/{name}").rpartition("-")
    assert (found, len(digest)) == (shown, 8)
    assert ledger_name(f"/srv/{name}") != ledger_name(f"/opt/{name}")
