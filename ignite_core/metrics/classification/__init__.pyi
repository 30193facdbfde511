from .accuracy import Accuracy as Accuracy
from .average_precision import AveragePrecision as AveragePrecision
from .cohen_kappa import CohenKappa as CohenKappa
from .confusion_matrix import ConfusionMatrix as ConfusionMatrix
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
from .matthews_corrcoef import MatthewsCorrCoef as MatthewsCorrCoef
from .multilabel_confusion_matrix import MultiLabelConfusionMatrix as MultiLabelConfusionMatrix
from .precision_recall import Precision as Precision, Recall as Recall
from .precision_recall_curve import PrecisionRecallCurve as PrecisionRecallCurve
from .report import ClassificationReport as ClassificationReport
from .roc_auc import ROC_AUC as ROC_AUC, RocCurve as RocCurve
from .top_k import TopKCategoricalAccuracy as TopKCategoricalAccuracy
