"""All of scikit-learn's checks of an estimator, on `ta.PictureClassifier`: about a hundred trainings, some minutes.

    python -m benchmarks.estimator_checks

The checks give rows of numbers, and the classifier takes pictures: for them, `OfRows` draws each row as a picture. What
comes of it is the classifier's own. The slow tests run the checks that need one training.
"""

from __future__ import annotations

import time
import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

import tellapart as ta

RECIPE = ta.Recipe.model_validate(
    {
        "data": {"size": 8, "fit": "squash", "validation": 0.3},
        "model": {"name": "mlp", "pretrained": False},
        "stages": [{"epochs": 2, "lr": 1e-3}],
    }
)
#: Checks that fail, and why that is right.
EXPECTED_FAILED_CHECKS = {
    "check_classifiers_one_label": "one class teaches nothing, and is refused",
    "check_fit2d_1sample": "one picture has one class, which is refused in other words than the check looks for",
}


class OfRows(ta.PictureClassifier):
    """The classifier, for rows of numbers: each is a picture as wide as it is long."""

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train on rows of numbers."""
        X, y = validate_data(self, X, y, multi_output=True)  # noqa: N806
        return super().fit(_drawn(X), y)

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """Probabilities of rows of numbers."""
        check_is_fitted(self)
        return super().predict_proba(_drawn(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        return tags


def _drawn(rows: npt.NDArray[Any]) -> list[npt.NDArray[np.uint8]]:
    bright, fine = np.clip(rows * 20 + 128, 0, 255), rows * 20 % 256  # large numbers differ in the lower half
    halves = [np.repeat(half[:, None], 4, axis=1) for half in (bright, fine)]
    return list(np.concatenate(halves, axis=1).astype(np.uint8))


def main() -> None:
    """Run all checks, and say how each went."""
    started = time.monotonic()

    def show(check_name: str, status: str, exception: Exception | None, **_: Any) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {status:8}{check_name}  {exception or ''}"[:150], flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = check_estimator(
            OfRows(RECIPE), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_fail=None, on_skip=None, callback=show
        )
    n = {
        status: sum(check["status"] == status for check in checks)
        for status in ("passed", "xfail", "skipped", "failed")
    }
    print(", ".join(f"{number} {status}" for status, number in n.items()))


if __name__ == "__main__":
    main()
