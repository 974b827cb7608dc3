"""cleanlab on features, labels and out-of-fold probabilities of another program: how wrong each label looks to it.

Run in an environment of its own: pip install cleanlab scikit-learn datasets
Usage: cleanlab_issues.py GIVEN.npz (features, labels, probabilities)      the last line printed is JSON

Tries Datalab with the probabilities given, Datalab with the features alone, and Datalab as its guide does it: with
probabilities of scikit-learn's logistic regression by cross-validation on the features; and of the last, the scores by
normalized margin and adjusted by class.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
from cleanlab import Datalab
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

warnings.filterwarnings("ignore")


def issues(labels: np.ndarray, **given: np.ndarray) -> np.ndarray:
    """1 - label score of Datalab."""
    lab = Datalab(data={"label": labels}, label_name="label", verbosity=0)
    lab.find_issues(issue_types={"label": {}}, **given)
    return 1.0 - lab.get_issues("label")["label_score"].to_numpy()


def main() -> None:
    """Read, judge, print."""
    given = np.load(sys.argv[1])
    used, labels = np.unique(given["labels"], return_inverse=True)
    features = given["features"].astype(np.float64)
    probabilities = given["probabilities"][:, used].astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = {
        "Datalab, our probabilities": issues(labels, pred_probs=probabilities),
        "Datalab, features": issues(labels, features=features),
    }
    scaled = features / features.std(axis=0).mean()
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegression(max_iter=150, C=0.1)
    own = cross_val_predict(model, scaled, labels, cv=folds, method="predict_proba")
    found["Datalab, logistic regression"] = issues(labels, pred_probs=own)
    for method in ("normalized_margin", "self_confidence"):
        scores = get_label_quality_scores(labels, own, method=method, adjust_pred_probs=method == "self_confidence")
        found[f"cleanlab, logistic regression, {method}"] = 1.0 - scores
    print(json.dumps({name: [float(value) for value in values] for name, values in found.items()}))


if __name__ == "__main__":
    main()
