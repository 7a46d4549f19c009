"""docs/configuration.md has the keys and the defaults of the code."""

import re
from dataclasses import fields

import yaml

from cb import BreakerConfig
from tests.docs.pages import blocks
from tests.support import ROOT

PAGE = ROOT / "docs/configuration.md"
SHIPPED = yaml.safe_load((ROOT / "config/config.yaml").read_text())
ROWS = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", PAGE.read_text(), re.MULTILINE))
EVERY, ONE, FLEET = (yaml.safe_load(block.text) for block in blocks(PAGE) if block.language == "yaml")


def test_table_has_every_setting_with_its_default() -> None:
    assert list(ROWS) == [each.name for each in fields(BreakerConfig)]
    defaults = yaml.safe_load("\n".join(f"{key}: {value}" for key, value in ROWS.items()))
    assert BreakerConfig.parse(defaults) == BreakerConfig()


def test_shipped_settings_are_the_defaults_with_slow_calls_and_the_examples_are_settings() -> None:
    shipped = SHIPPED["circuit_breaker"]
    assert BreakerConfig.parse(shipped) == BreakerConfig(slow_call_duration=2)
    assert EVERY["circuit_breaker"].items() <= shipped.items()
    assert ONE["breakers"].keys() <= SHIPPED["breakers"].keys()
    BreakerConfig.parse(ONE["breakers"]["market-data"])
    assert set(FLEET["state"]) == set(SHIPPED["state"])
