"""Names of origins, the same for all clients."""

from functools import lru_cache
from ipaddress import IPv6Address

from cb.ledger.names import fitting_name

PORTS = {"http": 80, "https": 443}


@lru_cache(maxsize=1024)
def origin_name(scheme: str, host: str, port: int | None) -> str:
    """Return the name of the breaker of an origin, as in `https://example.com:443`, shortened if it is very long.

    Args:
        scheme: Scheme, in lower case.
        host: Host in lower case, as it is looked up (punycode), or an IPv6 address without brackets.
        port: Port; None for that of the scheme. A UNIX socket has none.

    Raises:
        ValueError: There is no host, or it cannot be looked up.
    """
    if not host:
        raise ValueError("No host specified.")
    if " " in host or not host.isprintable():
        raise ValueError("The host is invalid.")
    host = f"[{host if '%' in host else IPv6Address(host)}]" if ":" in host else host.removesuffix(".")
    port = PORTS.get(scheme) if port is None else port
    name = f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"
    return fitting_name(name)  # a host may be longer than the name of a breaker
