"""Port conflicts."""

import os
import socket
from contextlib import suppress

import psutil

from .services import Service


def port_conflict(service: Service) -> str | None:
    """Return a message with the process that uses the service's port and the remedy, None if the port is free."""
    with socket.socket() as probe:
        if os.name == "posix":  # on Windows this option would share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((service.settings.host, service.port))
        except OSError as error:
            holder = _holder(service.port) or f"another user's process ({error.strerror})"
            return (
                f"Port {service.port}, which {service.name} needs, is in use by {holder}.\n"
                f"Stop that process, or choose another port: export {service.port_variable}={service.port + 1000}"
            )
    return None


def _holder(port: int) -> str | None:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            listens = (each for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
            if any(each.laddr.port == port for each in listens):
                return f"process {process.pid} ({' '.join(process.cmdline())[:100]})"
    return None
