"""The Postman collection and the curl commands of its guide, run on the services."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.platform.conftest import Platform
from tests.support import ROOT

FOLDER = ROOT / "docs/postman"
COLLECTION = json.loads((FOLDER / "collection.json").read_text())
ENVIRONMENT = json.loads((FOLDER / "environment.json").read_text())
GUIDE = (ROOT / "docs/POSTMAN_GUIDE.md").read_text()
NEWMAN = ROOT / ".ci/newman/node_modules/.bin/newman"
PLACES = {"gateway": "gateway", "portfolio": "portfolio", "marketData": "market-data"}

needs_newman = pytest.mark.skipif(
    not NEWMAN.exists() or not shutil.which("node"),
    reason="the collection is not played: needs newman (npm ci --prefix .ci/newman)",
)


def requests_of(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "request" in item:
        yield item
    for each in item.get("item", ()):
        yield from requests_of(each)


REQUESTS = list(requests_of(COLLECTION))


@needs_newman
def test_collection_passes_and_writes_a_report(platform: Platform) -> None:
    report = ROOT / "run/newman.xml"
    report.parent.mkdir(exist_ok=True)
    places = [f"{name}=http://127.0.0.1:{platform.ports[service]}" for name, service in PLACES.items()]
    ran = subprocess.run(
        [
            *(NEWMAN, "run", FOLDER / "collection.json", "--environment", FOLDER / "environment.json"),
            *(argument for place in places for argument in ("--env-var", place)),
            *("--reporters", "cli,junit", "--reporter-junit-export", report, "--color", "off"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    suites = ET.parse(report).getroot()
    played = {suite.get("name", "").rpartition(" / ")[2] for suite in suites}
    assert played == {each["name"] for each in REQUESTS}
    assert all(int(suite.get("tests", "0")) > 0 for suite in suites)


def test_every_request_has_a_test_and_a_name_of_its_own() -> None:
    names = [each["name"] for each in REQUESTS]
    assert len(set(names)) == len(names) > 30
    for each in REQUESTS:
        (test,) = [event["script"]["exec"] for event in each["event"] if event["listen"] == "test"]
        assert "pm.test(" in "\n".join(test), each["name"]


def test_guide_has_every_request_in_the_order_of_the_collection() -> None:
    assert re.findall(r"^\| ([^|]+?) \| `", GUIDE, re.MULTILINE) == [each["name"] for each in REQUESTS]
    told = re.findall(r"^\| [^|]+ \| `(\w+) ([^`]+)` \|", GUIDE, re.MULTILINE)
    urls = [(each["request"]["method"], each["request"]["url"]["raw"]) for each in REQUESTS]
    assert told == [
        (method, re.sub(r"^{{\w+}}", "", raw).replace("{{", "{").replace("}}", "}")) for method, raw in urls
    ]


def test_variables_of_the_environment_are_in_the_guide() -> None:
    assert {each["key"] for each in ENVIRONMENT["values"]} == {*PLACES, "adminToken"}
    for each in ENVIRONMENT["values"]:
        assert f"`{each['key']}`" in GUIDE
        assert each["value"] in {"", "http://localhost:8080", "http://localhost:8081", "http://localhost:8082"}


def test_curl_commands_of_the_guide_return_the_listed_statuses(platform: Platform) -> None:
    ports = {"8080": "gateway", "8081": "portfolio", "8082": "market-data"}
    told = re.findall(r"^```bash\n(.*?)^```\n\n`([\d ]+)`", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(told) == GUIDE.count("```bash")
    for block, statuses in told:
        at = re.sub(r"localhost:(808\d)", lambda match: f"127.0.0.1:{platform.ports[ports[match[1]]]}", block)
        at = at.replace("curl ", 'curl -sS -o /dev/null -w "%{http_code}\\n" ').replace("sleep 35", "sleep 5")
        ran = subprocess.run(["bash", "-euc", at], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr, ran.stdout.split()) == (0, "", statuses.split()), block
