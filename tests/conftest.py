import pytest
import torch

# Neither holds tests: the first is run by `make bench`, the second is read by pyright.
collect_ignore_glob = ["benchmarks/*", "typing/*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip visibly what needs an accelerator where there is none."""
    if torch.accelerator.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an accelerator, this machine has none"))
