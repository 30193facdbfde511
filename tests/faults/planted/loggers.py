"""Bugs in what loggers send."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.planted.table import planted, wrap


@planted(
    "a refused record stops the others",
    caught_by="tests/contrib/loggers/test_refused.py::test_a_diverging_gradient_stops_no_other_value",
)
def refused_record_stops_others(patch: pytest.MonkeyPatch) -> None:
    from ignite_contrib.loggers.delivery import deliver as module

    def deliver(original: Any, send: Any, records: Any) -> Any:
        rest, error = module._attempt(send, list(records))
        if error is None or not rest:
            return [], None
        return original(send, rest) if module._is_single(rest) else (rest, error)

    wrap(patch, module, "deliver", deliver)


@planted(
    "a secret in the file of what was not sent",
    caught_by="tests/contrib/loggers/test_redact.py::test_no_secret_is_logged_or_kept_in_the_file",
)
def secret_in_the_file(patch: pytest.MonkeyPatch) -> None:
    from ignite_contrib.loggers import _redact

    patch.setattr(_redact, "_SECRETS", ())
