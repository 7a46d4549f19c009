"""The routes."""

from flask import Blueprint, current_app

bp = Blueprint("main", __name__)


@bp.route("/call")
def translate_text():
    response = current_app.translator.post(current_app.config["TRANSLATOR_URL"], json=[{"Text": "Hola"}])
    if response.status_code != 200:
        return "Error: the translation service failed.", 502
    return {"text": response.text}
