"""Commands of a real project: migrations of an open circuit, the project's own commands, tests, and runserver."""

import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import requests

from cb import BreakerConfig, CircuitBreaker, Ledger, State
from tests.support import ROOT
from tests.support.redis_servers import free_port
from tests.support.waiting import until

from .conftest import write

SETTINGS = """
SECRET_KEY = "of the tests"
ALLOWED_HOSTS = ["127.0.0.1"]
DEBUG = True
USE_TZ = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
MIDDLEWARE = ["cb.integrations.django.CircuitBreakerMiddleware"]
DATABASES = {"default": {"ENGINE": "cb.integrations.django.db.sqlite3", "NAME": "x.sqlite3"}}
CIRCUIT_BREAKERS = {"ledger": "file://LEDGER"}
"""
URLS = """
from django.db import connection
from django.http import HttpResponse
from django.urls import path

from cb.integrations.django import breakers

vendor = breakers.get("vendor")

def view(request):
    with connection.cursor() as cursor:
        return HttpResponse(vendor.call(str, cursor.execute("SELECT 1").fetchone()[0]))

urlpatterns = [path("", view)]
"""
TESTS = """
from django.test import TestCase

from cb.integrations.django import breakers

class Outage(TestCase):
    def test_outage(self):
        self.assertEqual(self.client.get("/").status_code, 200)
        breakers.get("vendor").control.force_open(reason="a test")
        self.assertEqual(self.client.get("/").status_code, 503)
"""
COMMAND = """
from django.core.management import BaseCommand
from django.db import connection

class Command(BaseCommand):
    def handle(self, **options):
        connection.ensure_connection()
"""
MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


class Project:
    """A project in a directory."""

    def __init__(self, home: Path) -> None:
        self.home, self.ledger = home, home / "ledger"
        files = {
            "settings": SETTINGS.replace("LEDGER", str(self.ledger)),
            "urls": URLS,
            "tests": TESTS,
            "__init__": "",
            "management/__init__": "",
            "management/commands/__init__": "",
            "management/commands/report": COMMAND,
        }
        for name, text in files.items():
            write(home / f"shop/{name}.py", textwrap.dedent(text))
        (home / "manage.py").write_text(MANAGE)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        path = f"{self.home}{os.pathsep}{ROOT}"
        environ = os.environ | {"PYTHONPATH": path, "CB_STATE_DIR": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "manage.py", *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.home, env=environ, text=True, start_new_session=True, **output)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output of a command."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def breaker(self, name: str) -> CircuitBreaker:
        return CircuitBreaker(name, BreakerConfig(), ledger=Ledger.in_file(self.ledger))


@pytest.fixture
def own(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.quiet
def test_migrations_run_while_the_circuit_is_open_and_commands_of_the_project_are_refused(own: Project) -> None:
    breaker = own.breaker("database-default")
    breaker.control.force_open(reason="the server is upgraded")
    code, output = own.run("migrate")
    assert code == 0, output
    assert "Applying auth" in output
    code, output = own.run("report")
    assert (code, "CircuitOpenError" in output) == (1, True)
    assert breaker.snapshot().totals.requests == 0


@pytest.mark.quiet
def test_test_run_opens_no_circuit_of_the_running_services(own: Project) -> None:
    vendor = own.breaker("vendor")
    code, output = own.run("test")
    assert code == 0, output
    assert "Ran 1 test" in output
    assert vendor.state is State.CLOSED


@pytest.mark.quiet
def test_server_of_development_reloads_with_its_breakers(own: Project) -> None:
    url, urls = f"http://127.0.0.1:{free_port()}/", own.home / "shop/urls.py"
    vendor = own.breaker("vendor")
    server = own.start("runserver", "--skip-checks", re.sub(r".*/([^/]+)/$", r"\1", url))

    def answered(status: int, text: str) -> bool:
        try:
            found = requests.get(url, timeout=5)
        except requests.ConnectionError:
            return False
        return (found.status_code, found.text[: len(text)]) == (status, text)

    try:
        until(lambda: answered(200, "1"))
        vendor.control.force_open(reason="a test")
        assert answered(503, "{")
        urls.write_text(urls.read_text().replace("SELECT 1", "SELECT 12"))
        vendor.control.reset(reason="done")
        stamps = itertools.count(2_000_000_000)

        def reloaded() -> bool:
            # Its first look at the files may come after the first response: then a change before it is none.
            stamp = next(stamps)
            os.utime(urls, (stamp, stamp))
            end = time.monotonic() + 2
            while time.monotonic() < end and not (found := answered(200, "12")):
                threading.Event().wait(0.05)
            return found

        until(reloaded)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
