"""Memory and utilization of the GPUs of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

from ignite_core.engine.events import EventName, Events
from ignite_core.metrics.core.attachment import attach, detach, is_attached
from ignite_core.metrics.core.metric import Metric

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["GpuInfo"]

_MEBI: Final = 2**20


class GpuInfo(Metric):
    """Memory in use and utilization of each GPU of this machine, in whole percent, at the time it is computed.

    It ignores the output and has no states. Attached as ``"gpu"``, it stores ``"gpu:0 mem(%)"``, ``"gpu:0 util(%)"``
    and so on, with the numbers of the driver; values that a GPU does not report are not stored. Each rank reports its
    machine; nothing is reduced.

    Raises:
        ModuleNotFoundError: If the package ``pynvml`` is not installed.
        RuntimeError: If there is no driver or no GPU.
    """

    required_output_keys = None
    _is_synced = True

    def __init__(self) -> None:
        nvml = _nvml()
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise RuntimeError(f"GpuInfo: the NVIDIA driver cannot be queried: {error}") from error
        if not count:
            raise RuntimeError("GpuInfo: needs at least one NVIDIA GPU, the driver reports none")
        super().__init__()

    def reset(self) -> None:
        """Do nothing: there are no states."""

    def update(self, output: Any) -> None:
        """Do nothing: the output is ignored."""

    def compute(self) -> list[dict[str, dict[str, float]]]:
        """The current report of each GPU.

        Returns:
            One mapping per GPU: ``"fb_memory_usage"`` with ``"used"`` and ``"total"`` in MiB, ``"utilization"`` with
            ``"gpu_util"`` in percent; without the entries that the GPU does not report.
        """
        nvml = _nvml()
        return [_report(nvml, number) for number in range(nvml.nvmlDeviceGetCount())]

    def completed(self, engine: Engine, name: str) -> None:
        """Store the report of each GPU."""
        for number, report in enumerate(self.compute()):
            memory, utilization = report.get("fb_memory_usage"), report.get("utilization")
            if memory is not None:
                engine.state.metrics[f"{name}:{number} mem(%)"] = int(memory["used"] * 100 / memory["total"])
            if utilization is not None:
                engine.state.metrics[f"{name}:{number} util(%)"] = int(utilization["gpu_util"])

    def attach(  # type: ignore[override]
        self, engine: Engine, name: str = "gpu", event_name: EventName = Events.ITERATION_COMPLETED
    ) -> None:
        """Store the report of each GPU at each iteration or another event.

        Args:
            engine: The engine.
            name: Prefix of the names of the values.
            event_name: The event that stores the values, such as ``Events.ITERATION_COMPLETED(every=50)``.

        Raises:
            ValueError: If the name is taken by another metric of this engine.
        """
        attach(self, engine, name, self._resolve_usage(None, compute=event_name))

    def detach(  # type: ignore[override]
        self, engine: Engine, event_name: EventName = Events.ITERATION_COMPLETED
    ) -> None:
        """Undo :meth:`attach` with this event."""
        detach(self, engine, self._resolve_usage(None, compute=event_name))

    def is_attached(  # type: ignore[override]
        self, engine: Engine, event_name: EventName = Events.ITERATION_COMPLETED
    ) -> bool:
        """Whether the metric is attached with this event."""
        return is_attached(self, engine, self._resolve_usage(None, compute=event_name))

    def _leaves(self) -> list[Metric]:
        return []  # nothing to reset, update or reduce

    def _with_leaves(self, leaves: Mapping[Metric, Metric]) -> Self:
        return self


def _nvml() -> ModuleType:
    try:
        return import_module("pynvml")
    except ModuleNotFoundError as error:
        if error.name != "pynvml":
            raise  # the package is installed, but one of its imports is not
        raise ModuleNotFoundError(
            "GpuInfo needs the package 'pynvml': pip install nvidia-ml-py", name="pynvml"
        ) from error


def _report(nvml: ModuleType, number: int) -> dict[str, dict[str, float]]:
    handle, found = nvml.nvmlDeviceGetHandleByIndex(number), {}
    with suppress(nvml.NVMLError_NotSupported):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found["fb_memory_usage"] = {"used": memory.used / _MEBI, "total": memory.total / _MEBI}
    with suppress(nvml.NVMLError_NotSupported):  # raised for a GPU that is partitioned into instances
        found["utilization"] = {"gpu_util": nvml.nvmlDeviceGetUtilizationRates(handle).gpu}
    return found
