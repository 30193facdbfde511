"""The client of Visdom, opened without a wait, and one for the thread, which is told when something went wrong."""

from __future__ import annotations

import os
from typing import Any

from ignite_contrib._require import require

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
        session: Any

        def _handle_post(self, url: str, data: Any = None) -> str:
            try:
                answer = self.session.post(url, data=data or {}, timeout=_TIMEOUT_S)
                answer.raise_for_status()
            except requests.RequestException as error:
                raise OSError(str(error)) from error  # one that visdom does not print instead
            text: str = answer.text
            return text

    return _silent(Sender, {**settings, "use_incoming_socket": False, "use_polling": False})


def _silent(client: Any, settings: dict[str, Any]) -> Any:
    opened = client(**{**settings, "send": False})  # to open it would call the server
    opened.send = settings.get("send", True)
    return opened
