"""The documents by themselves: complete, valid, and equal to the committed files."""

import json
from typing import Any

import jsonschema_rs
import pytest

from servicekit.openapi.document import operations
from tests.proofs.contract.documents import SERVICES, app, committed
from tests.proofs.contract.schema import Contract

#: routes that are in no document, and why
HIDDEN: dict[str, str] = {}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def contract(service: str) -> Contract:
    return Contract(json.loads(committed(service).read_text()))


def test_committed_document_is_what_the_service_says(service: str) -> None:
    with app(service) as made:
        assert committed(service).read_text() == made.extensions["openapi"].text, "write it: make openapi"


def test_every_route_is_in_the_document(service: str, contract: Contract) -> None:
    with app(service) as made:
        routes = {(rule.rule, method): found for rule, method, found in operations(made)}
    assert {rule for (rule, _), found in routes.items() if found is None} == set(HIDDEN)
    assert len(contract.operations()) == len(routes) > 15


def test_schemas_and_examples_are_valid(contract: Contract) -> None:
    for name, schema in contract.document["components"]["schemas"].items():
        jsonschema_rs.meta.validate(schema)
        for member, told in schema["properties"].items():
            for example in told.get("examples", ()):
                assert contract.validator(told).is_valid(example), (name, member)
    bodies = [body for body in contents(contract.document["paths"]) if "example" in body]
    assert len(bodies) > 6
    for body in bodies:
        contract.validator(body["schema"]).validate(body["example"])


def contents(node: Any) -> list[dict[str, Any]]:
    """Return all bodies below a place of a document."""
    if not isinstance(node, dict):
        return []
    found = list(node["content"].values()) if "content" in node else []
    return found + [each for inner in node.values() for each in contents(inner)]


def test_operations_say_what_they_are_for(contract: Contract) -> None:
    for name, told in contract.operations().items():
        assert told["summary"] and told["tags"], name
        assert told["responses"].keys() & {"200", "201"}, name


def test_operations_that_steer_need_the_token_of_operators_and_no_others(contract: Contract) -> None:
    guarded = {name for name, told in contract.operations().items() if told.get("security") == [{"operators": []}]}
    named = {name for name in contract.operations() if "Simulation" in name or name.startswith("simulate")}
    actions = ("forceOpen", "disable", "metricsOnly", "reset")
    steering = {f"{action}{named}Breaker" for action in actions for named in ("", "Named")}
    of_all_users = {"listAudit", "verifyAudit", "readComparison", "listAlerts"} & contract.operations().keys()
    assert guarded == named | steering | {"listEvents"} | of_all_users


@pytest.mark.parametrize(
    ("tokens", "schemes"),
    [
        ({}, set()),
        ({"CB_ADMIN_TOKEN": "t" * 16}, {"operators"}),
        ({"CB_SERVICE_TOKEN": "t" * 16}, {"services"}),
        ({"CB_ADMIN_TOKEN": "t" * 16, "CB_API_KEYS__alice": f"sha256:{'0' * 64}"}, {"operators", "users"}),
    ],
)
def test_document_declares_the_tokens_that_the_service_asks_for_and_no_others(
    service: str, tokens: dict[str, str], schemes: set[str]
) -> None:
    with app(service, tokens) as made:
        contract = Contract(json.loads(made.extensions["openapi"].text))
    wanted = {scheme for told in contract.operations().values() for each in told.get("security", ()) for scheme in each}
    assert set(contract.document["components"].get("securitySchemes", ())) == schemes
    assert wanted <= schemes
    for name, told in contract.operations().items():
        steers = "Simulation" in name or "simulate" in name or name.endswith("Breaker") or name == "listEvents"
        assert ("401" in told["responses"]) == (steers or "security" in told), name


def test_answer_that_asks_to_wait_says_how_long(contract: Contract) -> None:
    for name, told in contract.operations().items():
        for status in told["responses"].keys() & {"429", "503"}:
            response = contract.response(name, int(status))
            if "application/problem+json" in response["content"]:
                assert "Retry-After" in response["headers"], (name, status)
