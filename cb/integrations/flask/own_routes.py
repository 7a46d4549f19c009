"""Precedence of an app's own routes over those of the extension."""

from collections.abc import Callable, Mapping
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, Request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter, RequestRedirect, Rule
from werkzeug.security import safe_join

from cb.log import Log

log = Log(__name__)

#: name of the blueprint of the routes, and beginning of the names of all their endpoints
BLUEPRINT = "circuit_breakers"
#: endpoint and path of the metrics
METRICS, METRICS_PATH = f"{BLUEPRINT}.metrics", "/metrics"
#: a rule and the values of its variables
_Match = tuple[Rule, Mapping[str, Any]]


class OwnRoutes:
    """The rules of an app that are not ours, in maps of their own.

    Flask takes the most specific rule, and of equal ones the first. Both can be ours: then the request is matched again
    without ours. All other requests are matched once, as before.

    Args:
        app: The app.
        prefixes: Paths given by the app for our routes. Rules of the app outside of them, such as `/<path:path>`, do
            not take what is below. Empty if the app has given none: then every rule of the app goes before ours.
    """

    def __init__(self, app: Flask, prefixes: tuple[str, ...]) -> None:
        self._app = app
        self._prefixes = prefixes
        self._maps: dict[tuple[str, ...], tuple[list[int], Map, dict[int, Rule]]] = {}
        self._reported: set[int] = set()

    def match(self, adapter: MapAdapter, found: Rule | None, *args: Any) -> _Match | None:
        """Return the app's own match for a request for which one of our rules was found, None if it has none.

        Raises RequestRedirect, where the app redirects.
        """
        metrics = found is not None and found.endpoint == METRICS
        rules, originals = self._map((METRICS_PATH,) if metrics else self._prefixes)
        again = copy(adapter)
        again.map = rules
        try:
            rule, values = MapAdapter.match(again, *args)
        except RequestRedirect:
            raise
        except HTTPException:
            return None
        if self._lacks_file(rule, values):
            return None
        own = originals[id(rule)]
        if id(own) not in self._reported:
            self._reported.add(id(own))
            log.warning(
                "%s is answered by this app's own route %s: url_prefix=... is where the routes of the breakers go",
                adapter.path_info,
                own.rule,
            )
        return own, values

    def _map(self, prefixes: tuple[str, ...]) -> tuple[Map, dict[int, Rule]]:
        own = [
            rule
            for rule in self._app.url_map.iter_rules()
            if not is_ours(rule) and (not prefixes or rule.rule.startswith(prefixes))
        ]
        known = self._maps.get(prefixes)
        if known is None or known[0] != [*map(id, own)]:  # routes may be added later
            known = self._maps[prefixes] = [*map(id, own)], *_copied(self._app.url_map, own)
        return known[1:]

    def _lacks_file(self, rule: Rule, values: Mapping[str, Any]) -> bool:
        """Return True for the route of static files, which may have any path, if there is no such file."""
        if rule.endpoint != "static" or not self._app.static_folder:
            return False
        path = safe_join(self._app.static_folder, values.get("filename", ""))
        return path is None or not Path(path).is_file()


def prefer_own_routes(app: Flask, prefixes: tuple[str, ...]) -> None:
    """Let the app's own routes go before ours, whichever were added first."""
    own, create = OwnRoutes(app, prefixes), app.create_url_adapter

    def create_url_adapter(request: Request | None) -> MapAdapter | None:
        adapter = create(request)
        if request is not None and isinstance(adapter, MapAdapter):
            adapter.__class__ = _preferring(type(adapter))  # type: ignore[arg-type]  # mypy takes the hash of its instances
            adapter.own_routes = own  # type: ignore[attr-defined]  # of the class
        return adapter

    app.create_url_adapter = create_url_adapter  # type: ignore[method-assign]  # one for each app


def is_ours(rule: Rule) -> bool:
    """Return True for a route of the extension."""
    return str(rule.endpoint).startswith(f"{BLUEPRINT}.")


class _Preferring:
    """A `MapAdapter` whose matches are the app's own, where it has one and one of ours."""

    own_routes: OwnRoutes

    def match(
        self,
        path_info: str | None = None,
        method: str | None = None,
        return_rule: bool = False,
        query_args: Any = None,
        websocket: bool | None = None,
    ) -> Any:
        matching: Callable[..., Any] = super().match  # type: ignore[misc]  # of a MapAdapter
        given = path_info, method, True, query_args, websocket
        try:
            found = matching(*given)
        except RequestRedirect:  # ours may be the rule that redirects
            own = self.own_routes.match(self, None, *given)  # type: ignore[arg-type]  # it is one
            if own is None:
                raise
            found = own
        else:
            if is_ours(found[0]):
                found = self.own_routes.match(self, found[0], *given) or found  # type: ignore[arg-type]  # as above
        return found if return_rule else (found[0].endpoint, found[1])


@cache
def _preferring(kind: type[MapAdapter]) -> type[MapAdapter]:
    """Return a class of adapters that prefer the app's own routes."""
    return type(kind.__name__, (_Preferring, kind), {})


def _copied(rules: Map, own: list[Rule]) -> tuple[Map, dict[int, Rule]]:
    """Return a map that has copies of some rules only, and the rules by the ids of their copies, which it keeps."""
    originals: dict[int, Rule] = {}
    copies = Map(
        default_subdomain=rules.default_subdomain,
        strict_slashes=rules.strict_slashes,
        merge_slashes=rules.merge_slashes,
        redirect_defaults=rules.redirect_defaults,
        converters=rules.converters,
        host_matching=rules.host_matching,
    )
    for rule in own:
        made = rule.empty()
        made.websocket, made.merge_slashes = rule.websocket, rule.merge_slashes  # `empty` leaves them out
        copies.add(made)
        originals[id(made)] = rule
    return copies, originals
