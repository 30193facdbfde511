from .accuracy import Accuracy as Accuracy, TopKCategoricalAccuracy as TopKCategoricalAccuracy
from .agreement import CohenKappa as CohenKappa, MatthewsCorrCoef as MatthewsCorrCoef
from .confusion_matrix import ConfusionMatrix as ConfusionMatrix, MultiLabelConfusionMatrix as MultiLabelConfusionMatrix
from .curves import (
    AveragePrecision as AveragePrecision,
    PrecisionRecallCurve as PrecisionRecallCurve,
    ROC_AUC as ROC_AUC,
    RocCurve as RocCurve,
)
from .fbeta import Fbeta as Fbeta
from .matrix_scores import (
    DiceCoefficient as DiceCoefficient,
    IoU as IoU,
    JaccardIndex as JaccardIndex,
    cmAccuracy as cmAccuracy,
    cmPrecision as cmPrecision,
    cmRecall as cmRecall,
    mIoU as mIoU,
)
from .precision_recall import Precision as Precision, Recall as Recall
from .report import ClassificationReport as ClassificationReport
