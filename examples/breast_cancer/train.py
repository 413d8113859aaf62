"""Train the example: is a tumour benign?  Wisconsin breast cancer data, 569 rows of 30 features, out of scikit-learn.

    python examples/breast_cancer/train.py --out DIR [--variant 1] [--variant 2]

For each variant, DIR/v<variant>/ gets
- model/         the folder to upload: model.joblib, inference_service.py, and example.json, the body of one request
- metrics.json   accuracy, ROC AUC and log loss on rows held out
- curves.json    loss and held-out loss for each boosting step: {"loss": [[step, value], …], …}
- parameters.json  what the model was trained with
- samples.json   held-out rows with what the model itself predicts for them: {"rows": […], "expected": […]}

The two variants differ so much that their answers tell which one spoke.  Same seed, same model.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

SEED = 7
SAMPLES = 64
VARIANTS: dict[int, dict[str, Any]] = {
    1: {"n_estimators": 30, "learning_rate": 0.05, "max_depth": 2, "subsample": 0.8},
    2: {"n_estimators": 100, "learning_rate": 0.1, "max_depth": 3, "subsample": 0.8},
}


def train(variant: int, out: Path) -> None:
    """Train one variant and write everything that the registry wants to know about it."""
    features, labels = load_breast_cancer(return_X_y=True)
    x, x_held, y, y_held = train_test_split(features, labels, test_size=0.25, random_state=SEED, stratify=labels)
    model = GradientBoostingClassifier(random_state=SEED, **VARIANTS[variant]).fit(x, y)
    probabilities = model.predict_proba(x_held)
    held_out = [log_loss(y_held, step) for step in model.staged_predict_proba(x_held)]

    (out / "model").mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out / "model" / "model.joblib")
    shutil.copyfile(Path(__file__).with_name("inference_service.py"), out / "model" / "inference_service.py")
    example = {"type": "libsvm", "feature_num": str(x.shape[1]), "data": {"insts": libsvm(y_held[0], x_held[0])}}
    (out / "model" / "example.json").write_text(json.dumps(example) + "\n")
    documents = {
        "metrics": {
            "accuracy": round(accuracy_score(y_held, model.predict(x_held)), 4),
            "roc_auc": round(roc_auc_score(y_held, probabilities[:, 1]), 4),
            "log_loss": round(log_loss(y_held, probabilities), 4),
        },
        "curves": {"loss": curve(model.train_score_), "held_out_loss": curve(held_out)},
        "parameters": VARIANTS[variant] | {"seed": SEED},
        "samples": {"rows": x_held[:SAMPLES].tolist(), "expected": probabilities[:SAMPLES, 1].tolist()},
    }
    for name, document in documents.items():
        (out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def libsvm(label: Any, row: Any) -> str:
    """A row as text: the label, then what is not 0, counted from 1."""
    return " ".join([str(label), *(f"{index}:{value}" for index, value in enumerate(row, start=1) if value)])


def curve(values: Any) -> list[list[float]]:
    """Values by step, from 1."""
    return [[step, round(float(value), 6)] for step, value in enumerate(values, start=1)]


def main() -> None:
    """Train what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variant", type=int, choices=list(VARIANTS), action="append", help="default: all")
    options = parser.parse_args()
    for variant in options.variant or VARIANTS:
        train(variant, options.out / f"v{variant}")
        print(options.out / f"v{variant}")


if __name__ == "__main__":
    main()
