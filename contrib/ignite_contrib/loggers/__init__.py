"""Where values of a run go: one module a back-end, loaded when its name is used."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_contrib.loggers.clearml import ClearMLLogger, ClearMLSaver
    from ignite_contrib.loggers.fbresearch import FBResearchLogger
    from ignite_contrib.loggers.files import CSVLogger, JSONLinesLogger
    from ignite_contrib.loggers.mlflow import MLflowLogger
    from ignite_contrib.loggers.neptune import NeptuneLogger, NeptuneSaver
    from ignite_contrib.loggers.polyaxon import PolyaxonLogger
    from ignite_contrib.loggers.tensorboard import TensorboardLogger
    from ignite_contrib.loggers.tqdm import ProgressBar
    from ignite_contrib.loggers.visdom import VisdomLogger
    from ignite_contrib.loggers.wandb import WandBLogger, WandBSaver

__all__ = [
    "CSVLogger",
    "ClearMLLogger",
    "ClearMLSaver",
    "FBResearchLogger",
    "JSONLinesLogger",
    "MLflowLogger",
    "NeptuneLogger",
    "NeptuneSaver",
    "PolyaxonLogger",
    "ProgressBar",
    "TensorboardLogger",
    "VisdomLogger",
    "WandBLogger",
    "WandBSaver",
]

_HOMES = {
    "ClearMLLogger": "clearml",
    "ClearMLSaver": "clearml",
    "FBResearchLogger": "fbresearch",
    "CSVLogger": "files",
    "JSONLinesLogger": "files",
    "MLflowLogger": "mlflow",
    "NeptuneLogger": "neptune",
    "NeptuneSaver": "neptune",
    "PolyaxonLogger": "polyaxon",
    "TensorboardLogger": "tensorboard",
    "ProgressBar": "tqdm",
    "VisdomLogger": "visdom",
    "WandBLogger": "wandb",
    "WandBSaver": "wandb",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
