"""A stand-in for ``torch_xla.runtime``, on one node."""

from __future__ import annotations

import os


def local_process_count() -> int:
    return int(os.environ.get("PJRT_LOCAL_PROCESS_COUNT", "1"))


def addressable_device_count() -> int:
    return int(os.environ.get("FAKE_XLA_DEVICES_OF_A_PROCESS", "1"))


def local_device_count() -> int:
    return local_process_count() * addressable_device_count()


def world_size() -> int:
    return local_device_count()


def global_ordinal() -> int:
    return local_ordinal()


def local_ordinal() -> int:
    return int(os.environ.get("PJRT_LOCAL_PROCESS_RANK", "0"))


def host_index() -> int:
    return 0
