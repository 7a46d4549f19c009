"""Redaction of secrets from exceptions, operators and other libraries."""

import json
import logging
import re
from typing import Any

import psycopg
import pytest
import requests
from flask import Flask
from sqlalchemy import create_engine

from cb import Registry
from cb.http import CircuitBreakerAdapter
from servicekit.redaction import Redaction

TOKEN = 'an/admin"token\\of=20signs'
SERVICE_TOKEN = "a-service'token\\of-signs"
DATABASE = "postgresql+psycopg://trader:Pa%2Fss%40word@127.0.0.1:1/gateway?connect_timeout=1&ssl_password=Pa%2Fss+file"
REMOTE = "redis://:re/dis@secret@127.0.0.1:1/0"


@pytest.fixture
def app(config: Any, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """Return a shop with secrets in its settings."""
    from tests.support.shop import create_app

    monkeypatch.setenv("CB_ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("CB_SERVICE_TOKEN", SERVICE_TOKEN)
    monkeypatch.setenv("CB_SERVICES__SHOP__MOTTO", DATABASE)
    return create_app()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def fail_to_parse() -> None:
    with requests.Session() as session:
        session.mount("http://", CircuitBreakerAdapter(Registry()))
        session.get("http://user:hidden@[no-address/")


def fail_in_a_header() -> None:
    requests.Request("GET", "http://x/", headers={"Authorization": "Bearer hidden-token-1\n"}).prepare()


def fail_to_connect() -> None:
    create_engine(DATABASE).connect()


def fail_in_a_conninfo() -> None:
    psycopg.connect("host=127.0.0.1 password=hidden port='")


def fail_with_a_url() -> None:
    raise OSError(f"cannot reach {REMOTE}, nor http://u:p/w?d#hidden@host/path")


def fail_with_headers() -> None:
    raise ValueError({"Authorization": "Basic dXNlcjpoaWRkZW4=", "password": "hidden", "Accept": "*/*"})


@pytest.mark.parametrize(
    "fail",
    [fail_to_parse, fail_in_a_header, fail_to_connect, fail_in_a_conninfo, fail_with_a_url, fail_with_headers],
)
def test_secret_in_an_exception_is_redacted(app: Flask, capsys: pytest.CaptureFixture[str], fail: Any) -> None:
    with pytest.raises(Exception) as raised:
        fail()
    said = str(raised.value)
    logging.getLogger("x").error("failed: %s", said, exc_info=raised.value, extra={"facts": {"reason": said}})
    (line,) = lines(capsys)
    told = json.dumps({key: value for key, value in line.items() if key != "exception"})
    trace = line["exception"].splitlines()
    for text in (told, *(each for each in trace if not each.startswith("    "))):  # those are lines of this file
        assert not re.search(r"hidden|dXNlcjpoaWRkZW4|Pa%2Fss|Pa/ss|re/dis|w\?d#", text), text
    assert line["message"].startswith("failed: ")
    assert len(line["message"]) > len("failed: ")


def test_secrets_of_the_settings_are_in_no_line(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    for secret in (TOKEN, SERVICE_TOKEN, "Pa%2Fss%40word", "Pa/ss@word", "Pa%2Fss+file", "Pa/ss file"):
        logging.getLogger("x").error("it is %s!", secret, extra={"facts": {"thing": [secret], "it": object}})
    for line in lines(capsys):
        assert (line["message"], line["thing"]) == ("it is ***!", ["***"])


def test_secret_in_the_repr_of_a_text_is_in_no_line() -> None:
    for secret in (TOKEN, SERVICE_TOKEN, "sl\\ash'quote\"both"):
        redaction = Redaction()
        redaction.hide([secret])
        for text in (repr(secret), repr(f"with {secret}"), repr({"a": f"{secret} and \"'"}), repr(secret.encode())):
            hidden = json.loads(redaction(json.dumps(text)))
            assert not re.search("admin|signs|sl.*ash|both", hidden), hidden


def test_secret_that_begins_with_another_is_taken_out_whole() -> None:
    secrets = [f"longer{'-tail' * length}" for length in range(20)]
    redaction = Redaction()
    redaction.hide(secrets)
    assert redaction(json.dumps(secrets)) == json.dumps(["***"] * len(secrets))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Invalid HTTP Header: 'authorization bearer key-of-alice'", "Invalid HTTP Header: 'authorization ***'"),
        ("'AUTHORIZATION BEARER key' is no header", "'AUTHORIZATION ***' is no header"),
        ("authorization: bearer key&x=1", "authorization: ***&x=1"),
        ("Authorization: Bearer key,with;comma) and", "Authorization: *** and"),
        ("it said bearer Key-of,alice1 again", "it said bearer *** again"),
        ("it said Bearer all-lower-case-key again", "it said Bearer *** again"),
        ("x://h/d?password=se,cret-tail&a=b", "x://h/d?password=***&a=b"),
        ("x://h/d?ssl_password=se;c)r}e]t, then", "x://h/d?ssl_password=*** then"),
        ("x://h/d?pwd=sec\\ret\nthen", "x://h/d?pwd=***\nthen"),
        ("password='ab c def' port=1", "password='***' port=1"),
        ('password="ab c def" port=1', 'password="***" port=1'),
        ("password='a\\'b \"c' port=1", "password='***' port=1"),
        ('password="a\\"b \'c" port=1', 'password="***" port=1'),
        ("{'Password': b'ab c', 'x': 'y'}", "{'Password': b'***', 'x': 'y'}"),
        ('{"password": "ab, c", "x": "y"}', '{"password": "***", "x": "y"}'),
        ("[('Authorization', 'bearer key')]", "[('Authorization', '***')]"),
        ("password='never ends", "password='***"),
    ],
)
def test_credentials_are_taken_out_to_their_end_and_no_further(text: str, expected: str) -> None:
    for member in (text, f"{text}\n", f"{text}\\"):
        hidden = json.loads(Redaction()(json.dumps({"a": member, "b": ["c"]})))
        assert hidden["b"] == ["c"]
        assert hidden["a"].startswith(expected)
    assert json.loads(Redaction()(json.dumps(text))) == expected


def test_token_of_a_request_is_in_no_line(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    client = app.test_client()
    for given in (TOKEN, "another-wrong-token-0"):
        client.post(
            "/api/v1/circuit-breaker/own-stock/force-open",
            json={"reason": f"with {given}" if given != TOKEN else "move"},
            headers={"Authorization": f"Bearer {given}"},
        )
    client.get("/api/v1/bug", headers={"Authorization": f"Bearer {TOKEN}", "Cookie": "session=hidden"})
    text = json.dumps(lines(capsys))
    assert "FORCED_OPEN" in text
    assert "RuntimeError" in text
    assert not re.search("another-wrong|20signs|hidden", text)


def test_reason_by_an_operator_loses_its_secret(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    stock = app.extensions["circuit_breakers"].registry.get("own-stock")
    stock.control.reset(reason="moved to postgresql://u:hidden@db/x", author="alice")
    (line,) = lines(capsys)
    assert line["reason"] == "moved to postgresql://***@db/x (by alice)"


@pytest.mark.parametrize(
    "text",
    [
        {"a": "x://u", "b": "c@d", "e": ["x://y", "z@w"], "password": None, "authorization": 5, "n": True},
        {"password": "", "say": "the password: it is wrong", 'odd"password': ["://@", "@"]},
        {"url": "http://127.0.0.1:8082/api/v1/prices/AAPL", "mail": "alice@example.com"},
    ],
)
def test_line_stays_json_with_the_same_members(text: dict[str, object]) -> None:
    assert json.loads(Redaction()(json.dumps(text))).keys() == text.keys()


def test_text_without_secrets_is_not_changed() -> None:
    for text in (
        "GET /api/v1/trades 200",
        "http://127.0.0.1:8082/a answers alice@example.com",
        "Basic information about bearer bonds",
        "no authorization, and a password that expires",
        "postgresql://db/x has no password",
    ):
        assert Redaction()(json.dumps(text)) == json.dumps(text)
