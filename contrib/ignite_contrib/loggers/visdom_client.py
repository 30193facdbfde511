"""The client of Visdom, opened without a wait, and one for the thread, which is told when something went wrong."""

from __future__ import annotations

import os
import time
from typing import Any

from ignite_contrib._require import require
from ignite_contrib.loggers.delivery.answers import text_of_answer

__all__ = ["open_client", "open_sender", "settings_of"]

#: Seconds that one call waits for an answer.
_TIMEOUT_S = 10.0


def settings_of(server: str | None, port: int | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``visdom.Visdom``: what is not given is read from the environment, or is its own default."""
    return {
        "server": os.environ.get("VISDOM_SERVER_URL", "localhost") if server is None else server,
        "port": int(os.environ.get("VISDOM_PORT", 8097)) if port is None else port,
        "username": os.environ.get("VISDOM_USERNAME"),
        "password": os.environ.get("VISDOM_PASSWORD"),
        "use_incoming_socket": False,
        **kwargs,
    }


def open_client(settings: dict[str, Any]) -> Any:
    """A ``visdom.Visdom`` that has not called the server yet, unless it is to listen to it, too."""
    visdom = require("visdom", extra="visdom", feature="VisdomLogger")
    if settings["use_incoming_socket"] or settings.get("use_polling"):
        return visdom.Visdom(**settings)
    return _silent(visdom.Visdom, settings)


def open_sender(settings: dict[str, Any]) -> Any:
    """A ``visdom.Visdom`` whose calls raise OSError if they fail in whatever way, and end in time."""
    import requests  # visdom needs it
    import visdom

    class Sender(visdom.Visdom):
        server: Any
        port: Any
        base_url: Any
        proxies: Any
        username: Any
        password: Any
        _session: Any
        _is_known = False  # whether the server is one of Visdom

        @property
        def session(self) -> Any:
            if not self._session:
                session = requests.Session()
                session.proxies.update(self.proxies or {})
                if self.username:
                    login = {"username": self.username, "password": self.password}
                    self._post(session, f"{self.server}:{self.port}{self.base_url}", json=login)
                self._session = session
            return self._session

        def _handle_post(self, url: str, data: Any = None) -> str:
            asks_whether = url.endswith("/win_exists")
            if not self._is_known and not asks_whether:
                self.win_exists("any")
            text = self._post(self.session, url, data=data or {})
            self._is_known = text in ("true", "false") if asks_whether else not text.lstrip().startswith("<")
            if not self._is_known:
                raise OSError(f"there must be a Visdom server at {url}, but what is there answers {text[:80]!r}")
            return text

        def _post(self, session: Any, url: str, **content: Any) -> str:
            try:
                with session.post(url, timeout=_TIMEOUT_S, stream=True, **content) as answer:
                    answer.raise_for_status()
                    return text_of_answer(answer, time.monotonic() + _TIMEOUT_S)
            except OSError as error:
                self._is_known = False
                failed = OSError(str(error))  # one that visdom does not print instead
                failed.response = getattr(error, "response", None)  # type: ignore[attr-defined]
                raise failed from error

    return _silent(Sender, {**settings, "use_incoming_socket": False, "use_polling": False})


def _silent(client: Any, settings: dict[str, Any]) -> Any:
    opened = client(**{**settings, "send": False})  # to open it would call the server
    opened.send = settings.get("send", True)
    return opened
