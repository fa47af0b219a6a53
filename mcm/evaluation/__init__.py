"""How well scores tell ID from OOD images: data sets in, metrics, plots and a report out.

Needs the extra `eval`: pip install 'mcm-ood[eval]'.
"""

from mcm.evaluation.data_sets import DataSet
from mcm.evaluation.evaluate import evaluate
from mcm.evaluation.results import Evaluation, Extreme, ScoreResult, SetCount, SetMetrics

__all__ = ["DataSet", "Evaluation", "Extreme", "ScoreResult", "SetCount", "SetMetrics", "evaluate"]
