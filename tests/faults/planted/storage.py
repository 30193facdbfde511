"""Bugs in files: how they are hashing, replaced, checked and read."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.planted.table import altered, nothing, planted, replace, wrap


@planted("no fsync", caught_by="tests/handlers/checkpoint/test_crash_states.py")
def no_fsync(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import hashing

    patch.setattr(hashing, "files", altered(hashing.files, fsync=nothing))


@planted(
    "a failed sync is no error",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_a_failed_sync_is_told_though_a_check_found_nothing",
)
def failed_sync_is_no_error(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import hashing

    files = hashing.files

    def fsync(fd: int) -> None:
        with contextlib.suppress(OSError):
            files.fsync(fd)

    patch.setattr(hashing, "files", altered(files, fsync=fsync))


@planted(
    "foreign files are overwritten",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_a_file_of_others_with_the_name_of_a_manifest_is_not_touched",
)
def overwrite_foreign_files(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import commit

    patch.setattr(commit, "is_of_others", lambda path: False)


@planted("a folder is not synced after the rename", caught_by="tests/handlers/checkpoint/test_crash_states.py")
def rename_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import commit

    def move(original: Any, self: Any, is_displaced: bool) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(commit, "files", altered(commit.files, fsync_path=nothing))
            original(self, is_displaced)

    wrap(patch, commit._Save, "_move", move)


@planted("short names the order of writes", caught_by="tests/handlers/checkpoint/test_disk_faults.py kill")
def previous_is_not_announced(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage.commit import _Save

    def put(original: Any, self: Any, file: Any) -> None:
        original(self, dataclasses.replace(file, previous=None))

    wrap(patch, _Save, "_put", put)


@planted("the disk's error is lost", caught_by="tests/handlers/checkpoint/test_dcp.py::test_a_full_disk_is_named")
def error_of_the_disk_is_lost(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import hashing

    @contextlib.contextmanager
    def any_errors(original: Any) -> Iterator[None]:
        yield

    wrap(patch, hashing, "original_errors", any_errors)


@planted(
    "half a file is taken for a whole one",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_an_error_that_the_writer_swallows_is_raised",
)
def half_a_file(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage.hashing import _Growing

    def write(original: Any, self: Any, data: Any) -> Any:
        try:
            return original(self, data)
        except BaseException:
            self.error = None
            raise

    wrap(patch, _Growing, "write", write)


@planted(
    "a live save is swept",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_a_save_of_another_process_is_left_alone_while_it_lives",
)
def sweep_a_live_save(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import temp_files

    @contextlib.contextmanager
    def locked(original: Any, path: Any, uuid: str) -> Iterator[bool]:
        with original(path, uuid):
            yield True

    wrap(patch, temp_files, "_locked_if_abandoned", locked)


@planted("a failed save leaves its file", caught_by="tests/handlers/checkpoint/test_disk_faults.py error")
def leave_the_file(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import commit

    def undo(original: Any, self: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            wrap(inner, commit, "discard", lambda discard, path: None if path == self.data else discard(path))
            original(self)

    wrap(patch, commit._Save, "undo", undo)


@planted(
    "the clock decides",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_the_order_of_saves_does_not_depend_on_the_clock",
)
def clock_decides(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import scan as module

    def scan(original: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        found.manifests.sort(key=lambda manifest: (manifest.saved_at, manifest.serial), reverse=True)
        return found

    wrap(patch, module, "scan", scan)


@planted(
    "lengths for digests",
    caught_by="tests/handlers/checkpoint/test_manifest.py::test_damage_anywhere_is_found_and_the_one_before_is_read",
)
def lengths_for_digests(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import scan

    def check_digest(original: Any, found: str, path: Any, expected: Any) -> None:
        if len(found) != len(expected.digest):
            original(found, path, expected)

    wrap(patch, scan, "check_digest", check_digest)


@planted(
    "a manifest of any spelling", caught_by="tests/handlers/checkpoint/test_manifest.py::test_every_single_bit_counts"
)
def manifest_of_any_spelling(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import manifest

    def parse(original: Any, text: bytes, path: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(manifest, "manifest_text", lambda file: text)
            return original(text, path)

    wrap(patch, manifest, "parse", parse)


@planted(
    "a file that was replaced",
    caught_by="tests/handlers/checkpoint/test_loading.py::test_what_was_checked_is_what_is_loaded",
)
def file_that_was_replaced(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import load

    def load_open(original: Any, fd: int, path: Any, map_location: Any = "cpu") -> Any:
        return load.torch.load(path, map_location=map_location, weights_only=True)

    wrap(patch, load, "load_open", load_open)


@planted(
    "private files",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_permissions_follow_the_umask_behind_a_link_too",
)
def private_files(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import fs

    def create(original: Any, path: Any) -> int:
        fd: int = original(path)
        os.fchmod(fd, 0o600)
        return fd

    wrap(patch, fs, "create", create)


@planted("short writes", caught_by="tests/handlers/checkpoint/test_storage.py::test_short_writes_are_continued")
def short_writes(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import hashing

    def write(original: Any, self: Any, data: Any) -> int:
        original(self, data)
        return min(memoryview(data).nbytes, hashing.CHUNK)

    wrap(patch, hashing._Growing, "write", write)


class _All:
    """Contains everything."""

    def __contains__(self, value: object) -> bool:
        return True


@planted(
    "any global", caught_by="tests/handlers/checkpoint/test_malicious_files.py::test_the_reasons_are_the_right_ones"
)
def any_global(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import safety

    replace(patch, safety, "_declared", _All)


class _AnySize(int):
    """A number that equals all others."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


@planted(
    "storages of any size",
    caught_by="tests/handlers/checkpoint/test_malicious_files.py::test_a_file_made_to_do_harm_does_none",
)
def storages_of_any_size(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage.safety import _DryRun

    def storage(original: Any, self: Any, *args: Any) -> Any:
        self._sizes = {key: _AnySize(size) for key, size in self._sizes.items()}
        return original(self, *args)

    wrap(patch, _DryRun, "_storage", storage)


@planted(
    "containers of any size",
    caught_by="tests/handlers/checkpoint/test_malicious_files.py::test_a_file_made_to_do_harm_does_none",
)
def containers_of_any_size(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage.safety import _DryRun

    def measure(original: Any, self: Any, *args: Any) -> Any:
        self._most_values = math.inf
        return original(self, *args)

    wrap(patch, _DryRun, "_measure", measure)


class _Offset(int):
    """An offset that is never before the end of another record."""

    def __lt__(self, other: int) -> bool:
        return isinstance(other, _Offset) and int(self) < int(other)


@planted(
    "overlapping entries",
    caught_by="tests/handlers/checkpoint/test_malicious_files.py::test_the_reasons_are_the_right_ones",
)
def overlapping_entries(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import safety

    class ZipFile(safety.zipfile.ZipFile):
        def infolist(self) -> Any:
            infos = super().infolist()
            for info in infos:
                info.header_offset = _Offset(info.header_offset)
            return infos

    patch.setattr(safety, "zipfile", altered(safety.zipfile, ZipFile=ZipFile))
    wrap(patch, safety, "_directory", lambda original, *args: (original(*args)[0], math.inf))


@planted(
    "who ends the process waits for the disk",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_who_interrupts_a_check_does_not_wait_for_a_slow_disk",
)
def interrupt_waits_for_the_disk(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import hashing

    def sync_while(original: Any, fd: int, check: Any) -> None:
        threads: list[Any] = []

        def start(original: Any, *args: Any) -> Any:
            threads.append(original(*args))
            return threads[0]

        with pytest.MonkeyPatch.context() as inner:
            wrap(inner, hashing, "start", start)
            try:
                original(fd, check)
            except BaseException:
                for thread in threads:
                    thread.join()
                raise

    wrap(patch, hashing, "_sync_while", sync_while)


@planted(
    "an error of close is ignored",
    caught_by="tests/handlers/checkpoint/test_storage.py::test_an_error_of_close_is_one_of_the_save",
)
def error_of_close_is_ignored(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import temp_files

    files = temp_files.files

    def close(fd: int) -> None:
        with contextlib.suppress(OSError):
            files.close(fd)

    patch.setattr(temp_files, "files", altered(files, close=close))


@planted(
    "numbers of numpy are written",
    caught_by="tests/handlers/checkpoint/test_plain_values.py::test_learning_rates_of_numpy_are_saved_and_loaded",
)
def numbers_of_numpy(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import plain_values

    replace(patch, plain_values, "_number", nothing)


@planted(
    "a file that torch cannot load is written",
    caught_by="tests/handlers/checkpoint/test_plain_values.py::test_a_file_that_torch_could_not_load_is_not_made",
)
def write_what_torch_cannot_load(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import plain_values

    wrap(patch, plain_values, "check_loadable", lambda original, fd: plain_values.safety.check(fd))


@planted(
    "any file that a checkpoint names is removed",
    caught_by="tests/handlers/checkpoint/test_forged_files.py::test_only_own_files_are_removed",
)
def remove_what_a_file_names(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import commit

    replace(patch, commit, "_foreign", nothing)


@planted(
    "a forged serial is counted on",
    caught_by="tests/handlers/checkpoint/test_forged_files.py::test_a_forged_serial_makes_no_save_vanish",
)
def forged_serial(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import manifest

    patch.setattr(manifest, "LARGEST_SERIAL", math.inf)


@planted(
    "keys that collide",
    caught_by="tests/handlers/checkpoint/test_malicious_files.py::test_the_reasons_are_the_right_ones",
)
def colliding_keys(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage.safety import _DryRun

    def check_keys(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        self._probes = 10**12
        original(self, *args, **kwargs)

    wrap(patch, _DryRun, "_check_keys", check_keys)


@planted(
    "a checksum is not compared",
    caught_by="tests/handlers/checkpoint/test_loading.py::test_a_flipped_bit_is_found_where_no_manifest_tells",
)
def checksum_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    from ignite_core.handlers.checkpoint.storage import load

    wrap(patch, load, "_harm", lambda original, fd, crc: original(fd, crc=False))
