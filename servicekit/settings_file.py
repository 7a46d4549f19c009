"""The source of settings: a YAML file, and environment variables that override single keys."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from cb.pickling import PortableError

from .urls import holds_password, without_passwords

#: sections of the file; True for those whose keys are names with a section each
SECTIONS = {
    "circuit_breaker": False,
    "breakers": True,
    "state": False,
    "metrics": False,
    "server": False,
    "api_keys": False,
    "services": True,
}
_PREFIX = "CB_"
#: keys whose values are never shown, in case one holds a secret by mistake
_SECRET = re.compile("password|passwd|pwd|secret|token")

Key = tuple[str, ...]


class SettingsError(PortableError):
    """A setting that breaks a rule: the service does not start.

    Args:
        file: The file, or the environment variable, of the setting.
        key: Dotted path of the setting; empty for the file as a whole.
        rule: The rule, worded to follow "must".
        value: The value that breaks it.
    """

    def __init__(self, file: str, key: str, rule: str, value: object) -> None:
        super().__init__(file, key, rule, value)
        #: the file, or the environment variable, of the setting
        self.file = file
        #: dotted path of the setting; empty for the file as a whole
        self.key = key
        #: the rule, worded to follow "must"
        self.rule = rule
        #: the value that breaks it
        self.value = value

    def __str__(self) -> str:
        # Passwords stay out of logs; a rule may quote the message of another error.
        rule, shown = without_passwords(self.rule), without_passwords(repr(self.value))
        if isinstance(self.value, str):
            shown = repr("***" if _SECRET.search(self.key) else without_passwords(self.value))
        return f"{self.file}: {self.key} must {rule}, got {shown}".replace(":  must", " must")


class Source:
    """The sections of a settings file with the overrides of the environment, and the origin of each setting."""

    def __init__(self, file: str, tree: dict[str, Any]) -> None:
        self.file = file
        #: True if the file itself, not the environment, holds a password
        self.secret = False
        self._tree = tree
        self._origins: dict[Key, str] = {}
        for name, section in tree.items():
            if name not in SECTIONS:
                raise self.error((str(name),), f"be one of {', '.join(SECTIONS)}", section)

    @classmethod
    def read(cls, file: str, environ: Mapping[str, str]) -> Self:
        """Read a file and the environment. Raises SettingsError."""
        try:
            text = Path(file).read_text(encoding="utf-8")
            tree = yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader that is stricter still
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(file, "", "be a readable file", str(error)) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise SettingsError(file, "", "be valid YAML", _problem(error)) from error
        if not isinstance(tree, dict):
            raise SettingsError(file, "", "hold sections", tree)
        source = cls(file, tree)
        source.secret = _holds_password(tree)
        for variable, text in environ.items():
            if variable.startswith(_PREFIX) and "__" in variable:
                source._change(variable, text)
        return source

    def section(self, *path: str) -> dict[str, Any]:
        """Return a section, empty if it is missing. Raises SettingsError."""
        section: Any = self._tree
        for depth, name in enumerate(path, 1):
            section = section.get(name)
            if section is None:
                return {}
            if not isinstance(section, dict):
                raise self.error(path[:depth], "be a section of keys and values", section)
            if odd := [key for key in section if not isinstance(key, str)]:
                raise self.error((*path[:depth], str(odd[0])), "be a name", odd[0])
        found: dict[str, Any] = section
        return found

    def check_names(self, section: str, known: Collection[str]) -> None:
        """Check that a section holds known names only. Raises SettingsError."""
        for name, settings in self.section(section).items():
            if name not in known:
                raise self.error((section, name), f"be one of {', '.join(known)}", settings)

    def changed(self, path: Key) -> bool:
        """Return True if the environment overrides a setting."""
        return path in self._origins

    def error(self, path: Key, rule: str, value: object) -> SettingsError:
        """Return an error that names the origin of a setting."""
        return SettingsError(self._origins.get(path, self.file), ".".join(path), rule, value)

    def _change(self, variable: str, text: str) -> None:
        """Override the key of a variable: CB_BREAKERS__MARKET_DATA__TIMEOUT is breakers.market-data.timeout."""
        origin = f"environment variable {variable}"
        path = tuple(variable.removeprefix(_PREFIX).lower().split("__"))
        if not all(path) or path[0] not in SECTIONS or len(path) != 2 + SECTIONS[path[0]]:
            raise SettingsError(origin, ".".join(path), "name a setting: CB_SECTION__KEY, CB_SECTION__NAME__KEY", text)
        if SECTIONS[path[0]]:
            names = {name.replace("-", "_"): name for name in self.section(path[0])}
            if path[1] not in names:
                known = ", ".join(names.values()) or "nothing"
                raise SettingsError(origin, ".".join(path), f"name one of {known}, in {path[0]} of {self.file}", text)
            path = (path[0], names[path[1]], path[2])
        try:
            value = yaml.load(text, _Loader)  # noqa: S506  # as above
        except (yaml.YAMLError, RecursionError):
            value = text
        section = self._tree
        for name in path[:-1]:
            self.section(*path[:-1])  # raises if it is not a section
            section[name] = section.get(name) or {}
            section = section[name]
        section[path[-1]] = value
        self._origins[path] = origin


def _holds_password(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_holds_password, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and holds_password(value)


def _problem(error: Exception) -> str:
    """Return the problem and its position, without text of the file, which may be a password."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = re.sub(r"""(['"]).{2,}\1""", "'...'", error.problem or "")  # type: ignore[attr-defined]  # has a mark
    return f"{problem} in line {mark.line + 1}, column {mark.column + 1}"


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys, and keeps invalid scalars as text for validation."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError):  # such as the date 2020-13-45
            return node.value
        # Python refuses to print much longer integers, and no setting is that large.
        return node.value if isinstance(value, int) and value.bit_length() > 64 else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if key.value in [earlier.value for earlier in keys[:index]]:
                again = f"the key {key.value} stands here for the second time"
                raise yaml.constructor.ConstructorError(None, None, again, key.start_mark)
        return super().construct_mapping(node, deep)
