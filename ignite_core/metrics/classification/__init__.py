"""Metrics of classifiers."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_core.metrics.classification.accuracy import Accuracy
    from ignite_core.metrics.classification.average_precision import AveragePrecision
    from ignite_core.metrics.classification.cohen_kappa import CohenKappa
    from ignite_core.metrics.classification.confusion_matrix import ConfusionMatrix
    from ignite_core.metrics.classification.fbeta import Fbeta
    from ignite_core.metrics.classification.matrix_scores import (
        DiceCoefficient,
        IoU,
        JaccardIndex,
        cmAccuracy,
        cmPrecision,
        cmRecall,
        mIoU,
    )
    from ignite_core.metrics.classification.matthews_corrcoef import MatthewsCorrCoef
    from ignite_core.metrics.classification.multilabel_confusion_matrix import MultiLabelConfusionMatrix
    from ignite_core.metrics.classification.precision_recall import Precision, Recall
    from ignite_core.metrics.classification.precision_recall_curve import PrecisionRecallCurve
    from ignite_core.metrics.classification.report import ClassificationReport
    from ignite_core.metrics.classification.roc_auc import ROC_AUC, RocCurve
    from ignite_core.metrics.classification.top_k import TopKCategoricalAccuracy

__all__ = [
    "ROC_AUC",
    "Accuracy",
    "AveragePrecision",
    "ClassificationReport",
    "CohenKappa",
    "ConfusionMatrix",
    "DiceCoefficient",
    "Fbeta",
    "IoU",
    "JaccardIndex",
    "MatthewsCorrCoef",
    "MultiLabelConfusionMatrix",
    "Precision",
    "PrecisionRecallCurve",
    "Recall",
    "RocCurve",
    "TopKCategoricalAccuracy",
    "cmAccuracy",
    "cmPrecision",
    "cmRecall",
    "mIoU",
]

_HOMES = {
    "Accuracy": "accuracy",
    "AveragePrecision": "average_precision",
    "CohenKappa": "cohen_kappa",
    "ConfusionMatrix": "confusion_matrix",
    "Fbeta": "fbeta",
    "DiceCoefficient": "matrix_scores",
    "IoU": "matrix_scores",
    "JaccardIndex": "matrix_scores",
    "cmAccuracy": "matrix_scores",
    "cmPrecision": "matrix_scores",
    "cmRecall": "matrix_scores",
    "mIoU": "matrix_scores",
    "MatthewsCorrCoef": "matthews_corrcoef",
    "MultiLabelConfusionMatrix": "multilabel_confusion_matrix",
    "Precision": "precision_recall",
    "Recall": "precision_recall",
    "PrecisionRecallCurve": "precision_recall_curve",
    "ClassificationReport": "report",
    "ROC_AUC": "roc_auc",
    "RocCurve": "roc_auc",
    "TopKCategoricalAccuracy": "top_k",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
