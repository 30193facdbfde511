from . import (
    debug as debug,
    distributed as distributed,
    engine as engine,
    handlers as handlers,
    metrics as metrics,
    utils as utils,
)
from .engine import Engine as Engine, Events as Events, State as State

__version__: str
