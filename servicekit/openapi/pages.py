"""The document on the wire, and a page that shows it: Swagger UI, which asks nobody but the service."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app
from marshmallow import fields

from cb.integrations.flask.static_files import MEDIA_TYPES, send_file
from servicekit.response_schemas import PassthroughSchema

from .operation import ResponseSpec, operation

VERSION = "1.0"
# Swagger UI is that of swagger-ui-dist 5.35.0, unchanged; its licence is beside it.
_FOLDER = Path(__file__).parent / "page"
_FILES = {name: _FOLDER / name for name in ("docs.html", "docs.js", "swagger-ui-bundle.js", "swagger-ui.css")}

bp = Blueprint("openapi", __name__)


class ContractSchema(PassthroughSchema):
    """A document of OpenAPI 3.1."""

    openapi = fields.String(required=True)
    info = fields.Dict(required=True)
    servers = fields.List(fields.Dict(), required=True)
    paths = fields.Dict(required=True)
    components = fields.Dict(required=True)


@dataclass
class Contract:
    """The document of an app, made when it is asked for: that takes the import of a library."""

    app: Flask
    title: str
    #: in a sentence or more, what the service is
    about: str

    @cached_property
    def text(self) -> str:
        """The document as JSON, always the same."""
        from .document import build

        return json.dumps(build(self.app, self.title, self.about, VERSION), indent=1) + "\n"


def init_app(app: Flask, title: str, about: str) -> None:
    """Give an app its document, and the page that shows it."""
    app.extensions["openapi"] = Contract(app, title, about)
    app.register_blueprint(bp)


@bp.get("/openapi.json")
@operation("readContract", tag="service", responses={200: ResponseSpec("The document.", ContractSchema())})
def show() -> Response:
    """Read this document."""
    contract: Contract = current_app.extensions["openapi"]
    return Response(contract.text, content_type="application/json")


@bp.get("/docs")
@operation("showDocs", tag="service", responses={200: ResponseSpec("A page.", types=("text/html",))})
def page() -> Response:
    """Show this document to people."""
    return send_file(_FILES, "docs.html")


@bp.get("/docs/<name>")
@operation(
    "readDocsFile",
    tag="service",
    path={"name": fields.String(metadata={"enum": list(_FILES)})},
    responses={200: ResponseSpec("A file of the page.", types=MEDIA_TYPES)},
)
def file(name: str) -> Response:
    """Read a file that the page for people needs."""
    return send_file(_FILES, name)
