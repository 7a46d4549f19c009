"""The state of an extension in an app: of Flask, `app.extensions["circuit_breakers"]`."""

from dataclasses import dataclass, field

from cb.registry import Registry

from .panel import Panel


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionState:
    """The breakers of an app, and its settings of the extension."""

    #: name of the app in responses
    service: str
    #: the breakers
    registry: Registry
    #: token of the operators; None if requests from this host need none
    token: str | None = field(repr=False)
    #: True if status, page and events are shown to everyone
    public: bool = False
    #: panels of the live page, in their order on it
    panels: list[Panel] = field(default_factory=list)
    #: the extension object that made this
    owner: object = field(repr=False)
