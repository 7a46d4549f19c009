"""Contents and metadata of the sdist and the wheel."""

import email
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import cb
from tests.packaging.conftest import Built, run, tracked
from tests.support import ROOT


def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(opened.read(name))


def test_wheel_holds_the_library_with_its_data_and_nothing_else(built: Built) -> None:
    names = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    assert names == set(tracked("cb"))
    assert {"cb/py.typed", "cb/fleet/sync.lua", "cb/integrations/operations/page/page.html"} < names


def test_sdist_holds_all_files_of_the_repository(built: Built) -> None:
    with tarfile.open(built.sdist) as opened:
        names = {member.name.partition("/")[2] for member in opened if member.isfile()}
    made = {name for name in names if ".egg-info/" in name} | {"PKG-INFO"}
    assert names - made == set(tracked())


def test_wheel_built_from_the_sdist_equals_the_one_built_from_the_checkout(built: Built) -> None:
    assert built.wheel.name == built.direct.name
    assert built.wheel.read_bytes() == built.direct.read_bytes()


def test_twine_and_check_wheel_contents_report_nothing(built: Built) -> None:
    checked = run([sys.executable, "-m", "twine", "--no-color", "check", "--strict", built.sdist, built.wheel])
    assert checked.count("PASSED") == 2
    # In the checkout, where its settings are.
    run([Path(sys.executable).with_name("check-wheel-contents"), built.wheel], cwd=ROOT)


def test_version_is_written_in_one_file(built: Built) -> None:
    assert metadata(built.wheel)["Version"] == cb.__version__
    assert f"-{cb.__version__}" in built.sdist.name
    packages = ("cb", "servicekit", "gateway", "portfolio", "marketdata", "scripts")
    holders = [
        name
        for name in tracked(*packages, "setup.cfg", "setup.py", "Makefile")
        if re.search(rf"\b{re.escape(cb.__version__)}\b", (ROOT / name).read_text(errors="replace"))
    ]
    assert holders == ["cb/__init__.py"]


def test_long_description_has_no_relative_link_and_no_picture(built: Built) -> None:
    text = str(metadata(built.wheel).get_payload())
    readme = (ROOT / "README.md").read_text()
    assert text.splitlines()[0] == readme.splitlines()[0]
    assert not re.findall(r"\]\((?![a-z]+://|#)[^)]*\)|<img|<picture|srcset", text)
    # The texts of the links stay.
    texts = re.findall(r"(?<!!)\[([^]!]+)\]\((?![a-z]+://|#)[^)]+\)", readme)
    assert texts
    assert not [each for each in texts if each not in text]


def test_metadata_names_the_python_versions_the_license_the_extras_and_the_classifiers(built: Built) -> None:
    fields = metadata(built.wheel)
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["License-Expression"] == "MIT"
    assert {"http", "redis", "resilience", "otel", "cli"} < set(fields.get_all("Provides-Extra", []))
    classifiers = fields.get_all("Classifier", [])
    assert {"Development Status :: 5 - Production/Stable", "Framework :: Flask", "Typing :: Typed"} < set(classifiers)
    required = [need for need in fields.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert not required, "the core has no dependencies"
    assert not fields.get_all("Project-URL", []), "there is no public address yet"
