"""The OpenAPI document and its page, of a service outside of the platform."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from servicekit import ResponseSpec, operation
from servicekit.openapi import Operation
from tests.support import ROOT
from tests.support.shop import ItemSchema


def document(client: FlaskClient) -> dict[str, Any]:
    found = client.get("/openapi.json").json
    assert found is not None
    return found


def test_view_on_terms_is_in_the_document_and_another_is_not(client: FlaskClient) -> None:
    paths = document(client)["paths"]
    assert paths["/api/v1/stock/{item}"]["get"]["operationId"] == "showItem"
    assert "/api/v1/bug" not in paths
    assert {"/metrics", "/dashboard/data", "/api/v1/circuit-breaker/{name}/reset"} <= paths.keys()


def test_validated_input_decides_the_documented_problems(client: FlaskClient) -> None:
    paths = document(client)["paths"]
    assert paths["/api/v1/stock/{item}"]["get"]["responses"].keys() == {"200", "400", "404", "422", "429"}
    assert paths["/api/v1/orders"]["post"]["responses"].keys() == {"201", "400", "413", "415", "422", "429"}
    assert paths["/api/v1/simulate/failure"]["get"]["responses"].keys() == {"200", "400", "401", "429"}


def test_money_is_a_number_or_text_on_its_way_in_and_text_on_its_way_out(client: FlaskClient) -> None:
    schemas = document(client)["components"]["schemas"]
    assert [each["type"] for each in schemas["Order"]["properties"]["price"]["anyOf"]] == ["string", "number"]
    assert schemas["Price"]["properties"]["price"]["type"] == "string"
    assert schemas["Order"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["Price"]


def test_answer_that_is_in_no_terms_is_a_fault_of_ours(app: Flask) -> None:
    with app.test_request_context():
        assert agreed(lambda: ({"item": "pen", "price": 3}, 200))() == ({"item": "pen"}, 200)
        with pytest.raises(KeyError):
            agreed(lambda: ({"item": "pen"}, 202))()


def agreed(view: Any) -> Operation:
    return operation("showItem", tag="shop", responses={200: ResponseSpec("It is in stock.", ItemSchema())})(view)


def test_library_for_the_document_is_imported_with_the_first_request_for_it(config: Path) -> None:
    program = """
import sys
from tests.support import shop
client = shop.create_app().test_client()
client.get("/docs")
print("apispec" in sys.modules)
client.get("/openapi.json")
print("apispec" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]


def test_example_of_the_documentation_is_on_its_terms(app: Flask) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/api.md", "exec"), names)
    names["add_views"](app)
    client = app.test_client()
    answer = client.post("/api/v1/tickets", json={"symbol": "AAPL", "price": 150})
    assert (answer.status_code, answer.json) == (201, {"symbol": "AAPL", "price": "150.00"})
    told = document(client)["paths"]["/api/v1/tickets"]["post"]
    assert (told["summary"], told["responses"].keys()) == (
        "Open a ticket",
        {"201", "400", "413", "415", "422", "429", "503"},
    )


@pytest.mark.parametrize("name", ["docs.html", "docs.js", "swagger-ui.css", "swagger-ui-bundle.js"])
def test_page_is_kept_by_browsers_and_runs_nothing_from_elsewhere(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/docs/{name}")
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-cache", "nosniff")
    assert client.get(f"/docs/{name}", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_page_has_the_files_that_it_names(client: FlaskClient) -> None:
    text = client.get("/docs").text
    assert "<script>" not in text and " style=" not in text
    for name in ("docs.js", "swagger-ui-bundle.js", "swagger-ui.css"):
        assert f'"docs/{name}"' in text
    for name in ("LICENSE", "nothing", "../__init__.py"):
        assert client.get(f"/docs/{name}").status_code == 404
