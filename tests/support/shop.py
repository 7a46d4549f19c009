"""A small service with one breaker, built with `servicekit`."""

import os
from typing import Any

from flask import Flask, Response
from marshmallow import Schema
from marshmallow.fields import List, Nested, String

from cb import Registry
from servicekit import Faults, ResponseSchema, ResponseSpec, create_service, load_settings, operation
from servicekit.fields import Flag, Identifier, Money, Quantity


class ShopSettings(Schema):
    motto = String(load_default="buy")
    #: name of another breaker, for the tests of the live page
    another = String(load_default=None)


SETTINGS = ShopSettings


class LineSchema(Schema):
    quantity = Quantity(required=True)


class OrderSchema(Schema):
    quantity = Quantity(required=True)
    price = Money(required=True)
    gift = Flag()
    lines = List(Nested(LineSchema))


class ItemSchema(ResponseSchema):
    item = Identifier(required=True)


class PriceSchema(ResponseSchema):
    price = Money(required=True)


class StockError(Exception):
    """The stock is not available."""


def create_app() -> Flask:
    settings = load_settings("shop", SETTINGS())
    app = create_service("corner-shop", settings)
    registry: Registry = app.extensions["circuit_breakers"].registry
    stock = registry.get("own-stock")
    faults = app.extensions["faults"] = Faults(app, name="shop")

    @stock
    def ask() -> None:
        faults.apply()

    @app.get("/api/v1/stock/<item>")
    @operation(
        "showItem",
        tag="shop",
        path={"item": Identifier()},
        responses={200: ResponseSpec("It is in stock.", ItemSchema())},
    )
    def show(item: str) -> Any:
        ask()
        return {"item": item}

    @app.post("/api/v1/orders")
    @operation("order", tag="shop", body=OrderSchema(), responses={201: ResponseSpec("It is ordered.", PriceSchema())})
    def order(body: dict[str, Any]) -> Any:
        return body

    @app.get("/api/v1/bug")
    def bug() -> Any:
        raise RuntimeError("for us alone")

    if another := settings.service["another"]:
        registry.get(another)

    @app.after_request
    def name_worker(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        return response

    return app
