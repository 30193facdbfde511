import pytest
import torch

# None of them holds tests: the first are run by `make bench`, the others are read by type checkers.
collect_ignore_glob = ["benchmarks/*", "typing/api.py", "typing/must_fail*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip visibly what needs an accelerator where there is none."""
    if torch.accelerator.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an accelerator, this machine has none"))
