"""The extension in an environment that has Flask alone."""

import json
import subprocess
import sys

from tests.support import ROOT

#: every installed package that the project uses, other than Flask and what Flask needs
ABSENT = (
    *("alembic", "apispec", "gunicorn", "limits", "marshmallow", "opentelemetry", "prometheus_client"),
    *("prometheus_flask_exporter", "redis", "requests", "servicekit", "sqlalchemy", "tenacity", "urllib3", "yaml"),
)
FLASK = {"_distutils_hack", "blinker", "click", "flask", "itsdangerous", "jinja2", "markupsafe", "werkzeug"}
PROGRAM = """
import json, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import cb
core = set(sys.modules)
from flask import Flask
from cb.integrations.flask import CircuitBreakers

app = Flask("alone")
breakers = CircuitBreakers(app, ledger="memory://")
vendor = breakers.registry.get("vendor")

@app.get("/price")
@vendor
def price():
    return "150"

client, api = app.test_client(), "/circuit-breakers"
answers = [
    client.get("/price"),
    client.post(f"{api}/vendor/force-open", json={"reason": "drill"}),
    client.get("/price"),
    client.get(f"{api}/status"),
    client.get(f"{api}/events"),
    client.get(f"{api}/"),
    client.get(f"{api}/data"),
    client.post(f"{api}/vendor/reset", json={"reason": 7}),
    client.post(f"{api}/vendor/reset", json={"reason": "done"}),
    client.get("/price"),
]
try:
    CircuitBreakers(Flask("measured"), ledger="memory://", metrics=True)
except ModuleNotFoundError as error:
    missing = [error.name, str(error)]
loaded = {name for name, module in sys.modules.items() if module}
print(json.dumps({
    "statuses": [answer.status_code for answer in answers],
    "missing": missing,
    "ours": sorted(name for name in loaded - core if name.startswith("cb.")),
    "packages": sorted({name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"__main__", "cb"}),
}))
"""


def test_extension_works_with_flask_alone_and_loads_few_modules() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *ABSENT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["statuses"] == [200, 200, 503, 200, 200, 200, 200, 422, 200, 200]
    name, message = found["missing"]
    assert name == "prometheus_client"
    assert message.endswith("pip install 'distributed-circuit-breaker[prometheus]'")
    assert set(found["packages"]) <= FLASK
    assert len(found["ours"]) <= 25, found["ours"]
