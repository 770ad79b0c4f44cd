from .ablation import run_ablation
from .clicks import ClickProtocol, click_scores, score_clicks
from .closed_form import Association, ClosedForm
from .quality import Runner, SceneData, run_quality
from .scoring import score_labels
from .training import TrainSettings, ns_train

__all__ = [
    "Association",
    "ClickProtocol",
    "ClosedForm",
    "Runner",
    "SceneData",
    "TrainSettings",
    "click_scores",
    "ns_train",
    "run_ablation",
    "run_quality",
    "score_clicks",
    "score_labels",
]
