"""What the GPUs of this machine are doing."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Self

from ignite_core.metrics.core.metric import Metric

__all__ = ["GpuInfo"]

_MEBI: Final = 2**20


class GpuInfo(Metric):
    """Memory in use and utilisation of each GPU of this machine, in whole percent, whenever it is computed.

    It looks at no output and remembers nothing. Attached under ``"gpu"``, it stores ``"gpu:0 mem(%)"``,
    ``"gpu:0 util(%)"`` and so on, numbered as the driver does; what a GPU does not report is not stored. It is the
    machine of this rank: no rank asks the others.

    Raises:
        ModuleNotFoundError: If the package is missing through which the driver is asked.
        RuntimeError: If there is no driver, or no GPU.
    """

    required_output_keys = None
    _is_synced = True  # each rank tells of its own machine

    def __init__(self) -> None:
        nvml = _nvml()
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise RuntimeError(f"GpuInfo: the NVIDIA driver cannot be asked: {error}") from error
        if not count:
            raise RuntimeError("GpuInfo: needs at least one NVIDIA GPU, the driver reports none")
        super().__init__()

    def reset(self) -> None:
        """Nothing is remembered."""

    def update(self, output: Any) -> None:
        """Nothing is taken in."""

    def compute(self) -> list[dict[str, dict[str, float]]]:
        """What each GPU reports now.

        Returns:
            One mapping for each GPU: ``"fb_memory_usage"`` with ``"used"`` and ``"total"`` in MiB, ``"utilization"``
            with ``"gpu_util"`` in percent of the last moments; without those that it does not report.
        """
        nvml = _nvml()
        return [_report(nvml, number) for number in range(nvml.nvmlDeviceGetCount())]

    def completed(self, engine: Any, name: str) -> None:
        """Store what each GPU reports."""
        for number, report in enumerate(self.compute()):
            memory, utilization = report.get("fb_memory_usage"), report.get("utilization")
            if memory is not None:
                engine.state.metrics[f"{name}:{number} mem(%)"] = int(memory["used"] * 100 / memory["total"])
            if utilization is not None:
                engine.state.metrics[f"{name}:{number} util(%)"] = int(utilization["gpu_util"])

    def attach(  # type: ignore[override]
        self, engine: Any, name: str = "gpu", event_name: Any = "ITERATION_COMPLETED"
    ) -> None:
        """Store what each GPU reports, at each iteration or another event.

        Args:
            engine: An :class:`~ignite_core.engine.Engine`.
            name: What the names of the values begin with.
            event_name: The event that stores them, such as ``Events.ITERATION_COMPLETED(every=50)``.

        Raises:
            ValueError: If another metric of this engine has the name.
        """
        self._usage.attach(self, engine, name, compute=event_name)

    def detach(self, engine: Any, event_name: Any = "ITERATION_COMPLETED") -> None:  # type: ignore[override]
        """Undo :meth:`attach` with this event."""
        self._usage.detach(self, engine, compute=event_name)

    def is_attached(self, engine: Any, event_name: Any = "ITERATION_COMPLETED") -> bool:  # type: ignore[override]
        """Whether :meth:`attach` was called with this event, and not undone."""
        attached: bool = self._usage.is_attached(self, engine, compute=event_name)
        return attached

    def _leaves(self) -> list[Metric]:
        """None: there is nothing to reset, to update or to reduce."""
        return []

    def _on(self, leaves: Any) -> Self:
        return self


def _nvml() -> ModuleType:
    try:
        return import_module("pynvml")
    except ModuleNotFoundError as error:
        if error.name != "pynvml":
            raise  # the package is there, but one of its own imports is not
        raise ModuleNotFoundError(
            "GpuInfo needs the package 'pynvml': pip install nvidia-ml-py", name="pynvml"
        ) from error


def _report(nvml: ModuleType, number: int) -> dict[str, dict[str, float]]:
    """What a GPU reports."""
    handle, found = nvml.nvmlDeviceGetHandleByIndex(number), {}
    with suppress(nvml.NVMLError_NotSupported):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found["fb_memory_usage"] = {"used": memory.used / _MEBI, "total": memory.total / _MEBI}
    with suppress(nvml.NVMLError_NotSupported):  # as of a GPU that is shared out in instances
        found["utilization"] = {"gpu_util": nvml.nvmlDeviceGetUtilizationRates(handle).gpu}
    return found
