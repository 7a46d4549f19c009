"""The routes of the OpenAPI document, and of Swagger UI, which loads nothing from other hosts."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app
from marshmallow import fields

from cb.integrations.flask.responses import send_file
from cb.integrations.operations.static_files import MEDIA_TYPES
from servicekit.response_schemas import PassthroughSchema

from .operation import ResponseSpec, operation

VERSION = "1.0"
# Swagger UI is from swagger-ui-dist 5.35.0, unchanged; its licence is in the same folder.
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
    """The document of an app, built on the first request, because it imports a library."""

    app: Flask
    title: str
    #: description of the service
    about: str

    @cached_property
    def text(self) -> str:
        """The document as JSON, with a stable order."""
        from .document import build

        return json.dumps(build(self.app, self.title, self.about, VERSION), indent=1) + "\n"


def init_app(app: Flask, title: str, about: str) -> None:
    """Add the document and its page to an app."""
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
