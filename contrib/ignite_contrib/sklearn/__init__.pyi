from .classifier import EngineClassifier as EngineClassifier
from .regressor import EngineRegressor as EngineRegressor
from .score import SklearnScore as SklearnScore
