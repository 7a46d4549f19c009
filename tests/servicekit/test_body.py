import json
from io import BytesIO

import pytest
from flask.testing import FlaskClient

ORDERS = "/api/v1/orders"
GOOD = {"quantity": 10, "price": 150.0}


def test_good_body_is_loaded(client: FlaskClient) -> None:
    answer = client.post(ORDERS, json=GOOD)
    assert (answer.status_code, answer.json) == (201, {"price": "150.00"})


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        ({"quantity": 0}, "/quantity", "must be a whole number from 1 to 1000000"),
        ({"quantity": -1}, "/quantity", "must be a whole number from 1 to 1000000"),
        ({"quantity": "10"}, "/quantity", "must be a whole number from 1 to 1000000"),
        ({"quantity": True}, "/quantity", "must be a whole number from 1 to 1000000"),
        ({"quantity": 10.5}, "/quantity", "must be a whole number from 1 to 1000000"),
        ({"quantity": None}, "/quantity", "must not be null"),
        ({"quantity": [[]]}, "/quantity", "must be a whole number from 1 to 1000000"),
        ({"price": 0}, "/price", "must be more than 0"),
        ({"price": "1.00001"}, "/price", "must be an amount with at most 10 digits before the point and 4 after it"),
        ({"gift": 1}, "/gift", "must be true or false"),
        (
            {"lines": [{"quantity": 1}, {"quantity": 0}]},
            "/lines/1/quantity",
            "must be a whole number from 1 to 1000000",
        ),
        ({"lines": [5]}, "/lines/0", "must be an object"),
        ({"colour": "red"}, "/colour", "must not be present: no such field is known"),
        ({"a/b~c": 1}, "/a~1b~0c", "must not be present: no such field is known"),
    ],
)
def test_wrong_field_is_refused_by_name_and_rule(
    client: FlaskClient, change: dict[str, object], pointer: str, detail: str
) -> None:
    answer = client.post(ORDERS, json=GOOD | change)
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert answer.json is not None
    assert answer.json["errors"] == [{"in": "body", "pointer": pointer, "detail": detail}]
    assert answer.json["detail"] == f"{pointer} {detail}"


def test_missing_fields_are_all_named(client: FlaskClient) -> None:
    answer = client.post(ORDERS, json={})
    assert answer.json is not None
    assert [(error["pointer"], error["detail"]) for error in answer.json["errors"]] == [
        ("/quantity", "must be present"),
        ("/price", "must be present"),
    ]


@pytest.mark.parametrize("text", ["[]", "5", '"text"', "null", "true"])
def test_body_that_is_no_object_is_refused(client: FlaskClient, text: str) -> None:
    answer = client.post(ORDERS, data=text, content_type="application/json")
    assert answer.json is not None
    assert answer.status_code == 422
    assert answer.json["errors"] == [{"in": "body", "pointer": "", "detail": "must be an object"}]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b"\xff",
        b"[" * 30_000,
        b'{"a":' * 10_000,
        b'{"price": 1e9999999999999999999}',
        b'{"price": ' + b"9" * 5000 + b"}",
        b'{"quantity": 1, "quantity": 2}',
    ],
)
def test_malformed_json_is_refused(client: FlaskClient, text: bytes) -> None:
    answer = client.post(ORDERS, data=text, content_type="application/json")
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert answer.json is not None
    assert answer.json["errors"][0]["detail"].startswith("must be JSON: ")
    assert len(answer.data) < 1000


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_number_that_json_does_not_have_is_refused_by_field(client: FlaskClient, number: str) -> None:
    for field in ("price", "quantity", "gift"):
        text = json.dumps(GOOD | {field: "?"}).replace('"?"', number)
        answer = client.post(ORDERS, data=text, content_type="application/json")
        assert answer.json is not None
        assert (answer.status_code, answer.json["code"]) == (400, "malformed-json")
        assert answer.json["detail"] == f"the body must be JSON: {number} is not a JSON number"
        assert [error["pointer"] for error in answer.json["errors"]] == [f"/{field}"]


@pytest.mark.parametrize("price", ["1e99999999", "1e-99999999", "-1e99999999", "9" * 4000, "10000000000", "0.00001"])
def test_number_out_of_bounds_is_refused_in_an_instant(client: FlaskClient, price: str) -> None:
    for field in ("price", "quantity"):
        text = json.dumps(GOOD | {field: "?"}).replace('"?"', price)
        answer = client.post(ORDERS, data=text, content_type="application/json")
        assert answer.json is not None
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, f"/{field}")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_body_of_another_type_is_refused(client: FlaskClient, content_type: str | None) -> None:
    answer = client.post(ORDERS, data=json.dumps(GOOD), content_type=content_type)
    assert (answer.status_code, answer.mimetype) == (415, "application/problem+json")


def test_charset_of_json_is_accepted(client: FlaskClient) -> None:
    answer = client.post(ORDERS, data=json.dumps(GOOD), content_type="application/json; charset=utf-8")
    assert answer.status_code == 201


def test_largest_body_is_read_and_one_byte_more_is_refused(client: FlaskClient) -> None:
    fill = json.dumps(GOOD).ljust(64 * 1024)
    assert client.post(ORDERS, data=fill, content_type="application/json").status_code == 201
    for size in (1, 2, 10_000):
        answer = client.post(ORDERS, data=fill + " " * size, content_type="application/json")
        assert (answer.status_code, answer.mimetype) == (413, "application/problem+json")


def test_chunked_body_that_is_too_large_is_refused(client: FlaskClient) -> None:
    stream = BytesIO(json.dumps(GOOD).ljust(70_000).encode())
    environ = {"wsgi.input": stream, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = client.post(ORDERS, content_type="application/json", environ_overrides=environ)
    assert answer.status_code == 413


def test_error_response_to_any_body_is_small(client: FlaskClient) -> None:
    answer = client.post(ORDERS, json={f"f{n}": 1 for n in range(1000)})
    assert answer.status_code == 422
    assert len(answer.data) < 4000


def test_document_of_too_many_parts_is_refused_before_a_schema_sees_it(client: FlaskClient) -> None:
    for parts, detail in (
        (1000, "must be present"),
        (1001, "the body must have at most 1000 members and elements"),
    ):
        answer = client.post(ORDERS, json={f"f{n}": 1 for n in range(parts)})
        assert answer.json is not None
        assert (answer.status_code, answer.json["code"]) == (422, "invalid-body")
        assert detail in answer.json["detail"]
