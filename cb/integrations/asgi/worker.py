"""The life of a worker: it joins the ledger when it starts, and closes it when it ends."""

from cb.background.event_loop import in_thread
from cb.background.fork import detect_fork, register_fork_reset
from cb.ledger.ledger import Ledger

from .messages import App, Message, Receive, Scope, Send

_ENDS = {"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"}


class WorkerLife:
    """The membership of a process in a ledger.

    Args:
        ledger: The ledger.
        closes: True to close it when the app ends.
    """

    def __init__(self, ledger: Ledger, *, closes: bool) -> None:
        self._ledger = ledger
        self._closes = closes
        self._joined = False
        register_fork_reset(self)

    def __repr__(self) -> str:
        return f"<WorkerLife {'joined' if self._joined else 'not joined'}, {self._ledger!r}>"

    def reset_after_fork(self) -> None:
        """Join again, in a forked child."""
        self._joined = False

    async def join(self) -> None:
        """Become one of the workers of the ledger, unless this process is one."""
        detect_fork()
        if not self._joined:
            self._joined = True
            await in_thread(self._ledger.join)

    async def live(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run an app for the lifespan of a worker."""

        async def begin() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.join()
            return message

        async def end(message: Message) -> None:
            if message["type"] in _ENDS and self._closes:
                self._joined = False
                await in_thread(self._ledger.close)
            await send(message)

        await app(scope, begin, end)
