import gc
import os
import signal

import pytest
import torch

# None of them holds tests: the first are run by `make bench`, the others are read by type checkers.
collect_ignore_glob = ["benchmarks/*", "typing/api.py", "typing/must_fail*"]

#: A shell makes jobs in the background ignore Ctrl-C, and what they start does too; but the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: Names that a test uses if it starts other processes, which takes a second or more.
STARTERS = {"run_distributed", "subprocess", "Popen", "launched", "multiprocessing"}


def pytest_collection_finish() -> None:
    """Spare the garbage collector the objects of thousands of tests, which stay anyway."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes, which ``make quick`` leaves out.

    Skip visibly what needs an accelerator where there is none, and what ``make nightly`` alone runs.
    """
    skipped = {}
    if not torch.accelerator.is_available():
        skipped["gpu"] = "needs an accelerator, this machine has none"
    if os.environ.get("IGNITE_CORE_NIGHTLY") != "1":
        skipped["nightly"] = "run by `make nightly`, or with IGNITE_CORE_NIGHTLY=1"
    for item in items:
        if isinstance(item, pytest.Function) and STARTERS.intersection(item.function.__code__.co_names):
            item.add_marker("processes")
        for marker, reason in skipped.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
