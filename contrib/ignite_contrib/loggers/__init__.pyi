from ._media import HistogramLogger as HistogramLogger, MediaLogger as MediaLogger
from .clearml import ClearMLLogger as ClearMLLogger, ClearMLSaver as ClearMLSaver
from .fbresearch import FBResearchLogger as FBResearchLogger
from .files import CSVLogger as CSVLogger, JSONLinesLogger as JSONLinesLogger
from .mlflow import MLflowLogger as MLflowLogger
from .neptune import NeptuneLogger as NeptuneLogger, NeptuneSaver as NeptuneSaver
from .polyaxon import PolyaxonLogger as PolyaxonLogger
from .tensorboard import TensorboardLogger as TensorboardLogger
from .tqdm import ProgressBar as ProgressBar
from .visdom import VisdomLogger as VisdomLogger
from .wandb import WandBLogger as WandBLogger, WandBSaver as WandBSaver
