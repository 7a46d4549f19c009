"""The operators' routes for frameworks whose own routes they do not use."""

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from cb.errors import LedgerBusyError

from . import commands, documents
from .access import may_read, require_operator, require_reader
from .extension_state import ExtensionState
from .page import PAGE, page_content, page_files
from .problem import Problem
from .rejections import problem_of
from .request import Request
from .request_input import check_body
from .responses import Response, file_response, json_response, page_response, problem_response, redirection
from .security_headers import HEADERS
from .static_files import read_file

View = Callable[[Request, bytes, str], Response]


class Route:
    """A route: its view, and a check that looks at the headers of a request before its body is received.

    Args:
        view: Returns the response to a request with a body and an id. Raises Problem.
        check: Raises Problem.
        takes_body: True if the view needs the body: its first `MAX_BODY` + 1 bytes.
    """

    def __init__(self, view: View, check: Callable[[Request], None] | None = None, *, takes_body: bool = False) -> None:
        self._view = view
        self._check = check
        #: True if the view needs the body: its first `MAX_BODY` + 1 bytes
        self.takes_body = takes_body

    def __repr__(self) -> str:
        return f"<Route {self._view!r}>"

    def refusal(self, request: Request, request_id: str) -> Response | None:
        """Return the response to a request that is refused before its body is received, None for any other."""
        try:
            if self._check is not None:
                self._check(request)
        except Problem as problem:
            return _secured(problem_response(problem, request_id))
        return None

    def respond(self, request: Request, body: bytes, request_id: str) -> Response:
        """Return the response to a request. It waits for locks and files."""
        try:
            return _secured(self._view(request, body, request_id))
        except (Problem, LedgerBusyError) as error:
            return _secured(problem_response(problem_of(error), request_id))


class Routes:
    """The status, the events, the commands and the live page of the breakers of an app.

    Args:
        state: The breakers and the settings.
    """

    def __init__(self, state: ExtensionState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<Routes of {self._state.service!r}>"

    def find(self, method: str, path: str) -> Route | None:
        """Return the route of a request, None if there is none.

        Args:
            method: Method of the request. Send no body in response to HEAD.
            path: Decoded path below the prefix. The page has the path `/`, to which that of the prefix leads.
        """
        if not path:
            return Route(self._to_page)
        reads = {"/": self._page, "/status": self._status, "/events": self._events, "/data": self._data}
        read = reads.get(path) or (partial(self._file, path[1:]) if path[1:] in self._files() else None)
        if read is not None:
            allowed, found = "GET, HEAD", Route(_bodiless(read))
        else:
            name, _, action = path[1:].rpartition("/")
            if action not in commands.ACTIONS:
                return None
            allowed = "POST"
            found = Route(partial(self._command, action, name), self._check_command, takes_body=True)
        return found if method in allowed.split(", ") else Route(partial(_refuse, method, allowed))

    def _to_page(self, request: Request, *_: object) -> Response:
        return redirection(f"{request.path.rpartition('/')[2]}/")

    def _files(self) -> Mapping[str, Any]:
        return page_files(self._state.panels)

    def _status(self, request: Request) -> Response:
        require_reader(self._state, request)
        return json_response(documents.status(self._state))

    def _events(self, request: Request) -> Response:
        require_reader(self._state, request)
        return json_response(commands.events(self._state.registry, request))

    def _data(self, request: Request) -> Response:
        require_reader(self._state, request)
        return json_response(documents.page_data(self._state, request))

    def _page(self, request: Request) -> Response:
        content = page_content(self._state.panels)
        if may_read(self._state, request):
            return file_response(content, ".html", request)
        # Browsers send no token with it: the page asks for it.
        if self._state.token is None or "text/html" not in (request.headers.get("Accept") or ""):
            require_reader(self._state, request)
        return page_response(content, HTTPStatus.FORBIDDEN)

    def _file(self, name: str, request: Request) -> Response:
        if name == PAGE:
            return self._page(request)
        if self._state.token is None:  # otherwise the page that asks for it needs its files
            require_reader(self._state, request)
        path = self._files()[name]
        return file_response(read_file(path), path.suffix, request)

    def _check_command(self, request: Request) -> None:
        require_operator(self._state, request)
        check_body(request)

    def _command(self, action: str, name: str, request: Request, body: bytes, request_id: str) -> Response:
        named = name or commands.read_name(request)
        change = commands.run_command(
            self._state.registry, action, named, request, body, request_id=request_id, in_path=bool(name)
        )
        return json_response(change)


def _bodiless(view: Callable[[Request], Response]) -> View:
    return lambda request, _body, _request_id: view(request)


def _secured(response: Response) -> Response:
    return response._replace(headers={**HEADERS, **response.headers})


def _refuse(method: str, allowed: str, *_: object) -> Response:
    detail = f"{method[:16]} is not possible here, only {allowed}"
    raise Problem(405, "method-not-allowed", detail, headers={"Allow": allowed})
