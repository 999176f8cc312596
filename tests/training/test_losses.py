from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from tellapart.errors import RecipeError
from tellapart.training.losses import ONE_LABEL, SEVERAL_LABELS, build_loss

Doubles = npt.NDArray[np.float64]
KINDS = [*((kind, False) for kind in ONE_LABEL), *((kind, True) for kind in SEVERAL_LABELS)]
N, CLASSES = 6, 4


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(1)) * 3


@pytest.fixture
def numbers() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 3, 1])


@pytest.fixture
def labels() -> Tensor:
    return (torch.rand(N, CLASSES, generator=torch.Generator().manual_seed(2)) < 0.4).float()


def softmax(x: Tensor) -> Doubles:
    e = np.exp(x.double().numpy())
    return np.asarray(e / e.sum(1, keepdims=True))


def sigmoid(x: Tensor) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-x.double().numpy())))


def test_cross_entropy_is_torchs(logits: Tensor, numbers: Tensor) -> None:
    weights = torch.tensor([0.5, 1, 2, 3])
    loss = build_loss("cross_entropy", False, label_smoothing=0.1, class_weights=weights)
    expected = F.cross_entropy(logits, numbers, weights, reduction="none", label_smoothing=0.1).mean()
    torch.testing.assert_close(loss(logits, numbers), expected)
    shares = torch.softmax(logits.flip(0), 1)
    torch.testing.assert_close(loss(logits, shares), F.cross_entropy(logits, shares, weights, label_smoothing=0.1))


def test_cross_entropy_by_its_formula(logits: Tensor, numbers: Tensor) -> None:
    t = 0.8 * np.eye(CLASSES)[numbers.numpy()] + 0.2 / CLASSES
    expected = -(t * np.log(softmax(logits))).sum(1).mean()
    assert float(build_loss("cross_entropy", False, label_smoothing=0.2)(logits, numbers)) == pytest.approx(expected)


def test_auto(logits: Tensor, numbers: Tensor, labels: Tensor) -> None:
    one = build_loss("auto", False)(logits, numbers)
    multilabel = build_loss("auto", True)(logits, labels)
    torch.testing.assert_close(one, F.cross_entropy(logits, numbers))
    torch.testing.assert_close(multilabel, F.binary_cross_entropy_with_logits(logits, labels))


def test_binary_cross_entropy_is_torchs(logits: Tensor, labels: Tensor) -> None:
    weights = [1.0, 2, 0.5, 7]
    loss = build_loss("binary_cross_entropy", True, label_smoothing=0.1, positive_weights=weights)
    expected = F.binary_cross_entropy_with_logits(logits, 0.9 * labels + 0.05, pos_weight=torch.tensor(weights))
    torch.testing.assert_close(loss(logits, labels), expected)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 0.7), (0.0, 0.5)])
def test_focal_for_several_is_torchvisions(logits: Tensor, labels: Tensor, gamma: float, alpha: float) -> None:
    found = build_loss("focal", True, gamma=gamma, alpha=alpha)(logits, labels)
    torch.testing.assert_close(found, sigmoid_focal_loss(logits, labels, alpha, gamma, "mean"))


def test_focal_for_several_takes_the_papers_values(logits: Tensor, labels: Tensor) -> None:
    torch.testing.assert_close(build_loss("focal", True)(logits, labels), sigmoid_focal_loss(logits, labels).mean())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_for_one_label_by_its_formula(logits: Tensor, numbers: Tensor, gamma: float) -> None:
    weights = np.array([0.5, 1, 2, 3])
    p = softmax(logits)[np.arange(N), numbers]
    expected = (-weights[numbers] * (1 - p) ** gamma * np.log(p)).mean()
    loss = build_loss("focal", False, gamma=gamma, class_weights=weights.tolist())
    assert float(loss(logits, numbers)) == pytest.approx(expected, rel=1e-5)


def test_focal_without_gamma_is_cross_entropy(logits: Tensor, numbers: Tensor) -> None:
    torch.testing.assert_close(build_loss("focal", False, gamma=0)(logits, numbers), F.cross_entropy(logits, numbers))


@pytest.mark.parametrize(("gamma", "clip"), [(4.0, 0.05), (1.0, 0.2), (2.0, 0.0), (0.0, 0.05)])
def test_asymmetric_by_its_formula(logits: Tensor, labels: Tensor, gamma: float, clip: float) -> None:
    p, t = sigmoid(logits), labels.double().numpy()
    q = np.maximum(p - clip, 0)
    expected = -(t * np.log(p) + (1 - t) * q**gamma * np.log(1 - q)).mean()
    assert float(build_loss("asymmetric", True, gamma=gamma, clip=clip)(logits, labels)) == pytest.approx(expected)
    if (gamma, clip) == (4.0, 0.05):
        assert float(build_loss("asymmetric", True)(logits, labels)) == pytest.approx(expected)


def test_asymmetric_gradient_by_differences(logits: Tensor, labels: Tensor) -> None:
    """The weight q^gamma is differentiated too, as in the paper."""
    loss = build_loss("asymmetric", True)
    x = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(x, labels), x)

    def by_formula(values: Doubles) -> float:
        p, t = 1 / (1 + np.exp(-values)), labels.double().numpy()
        q = np.maximum(p - 0.05, 0)
        return float(-(t * np.log(p) + (1 - t) * q**4 * np.log(1 - q)).mean())

    values = logits.double().numpy()
    for i in range(N):
        for j in range(CLASSES):
            step = np.zeros_like(values)
            step[i, j] = 1e-5
            slope = (by_formula(values + step) - by_formula(values - step)) / 2e-5
            assert float(found[i, j]) == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_squeezed_by_its_formula(logits: Tensor, labels: Tensor) -> None:
    q, t = 0.99 * sigmoid(logits) + 0.005, labels.double().numpy()
    expected = -(t * np.log(q) + (1 - t) * np.log(1 - q)).sum(1).mean()
    assert float(build_loss("squeezed", True)(logits, labels)) == pytest.approx(expected, rel=1e-6)
    worst = build_loss("squeezed", True)(torch.full((1, 3), 1e4), torch.zeros(1, 3))
    assert float(worst) == pytest.approx(-3 * math.log(0.005), rel=1e-4)


def target_for(multilabel: bool, numbers: Tensor, labels: Tensor) -> Tensor:
    return labels if multilabel else numbers


@pytest.mark.parametrize(("kind", "multilabel"), KINDS)
def test_the_mean_is_that_of_the_pictures(
    kind: str, multilabel: bool, logits: Tensor, numbers: Tensor, labels: Tensor
) -> None:
    target = target_for(multilabel, numbers, labels)
    each = build_loss(kind, multilabel, label_smoothing=0.1, reduction="none")(logits, target)
    assert each.shape == (N,)
    torch.testing.assert_close(build_loss(kind, multilabel, label_smoothing=0.1)(logits, target), each.mean())
    alone = build_loss(kind, multilabel, label_smoothing=0.1)
    torch.testing.assert_close(torch.stack([alone(logits[i : i + 1], target[i : i + 1]) for i in range(N)]), each)


@pytest.mark.parametrize("kind", ONE_LABEL)
@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0, 2, 3, 4]}, {"label_smoothing": 0.3}])
def test_hard_and_soft_targets_agree(kind: str, options: dict[str, Any], logits: Tensor, numbers: Tensor) -> None:
    loss = build_loss(kind, False, **options)
    torch.testing.assert_close(loss(logits, numbers), loss(logits, F.one_hot(numbers, CLASSES).double()))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64])
def test_several_labels_of_any_type(dtype: torch.dtype, logits: Tensor, labels: Tensor) -> None:
    loss = build_loss("auto", True)
    torch.testing.assert_close(loss(logits, labels.to(dtype)), loss(logits, labels))


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
@pytest.mark.parametrize(
    ("kind", "multilabel", "options"),
    [
        *((kind, multilabel, {}) for kind, multilabel in KINDS),
        *(("focal", multilabel, {"gamma": 0.5}) for multilabel in (False, True)),
        *(("asymmetric", True, {"gamma": gamma, "clip": clip}) for gamma in (0.0, 0.5) for clip in (0.0, 0.05)),
    ],
)
def test_extreme_logits_stay_finite(kind: str, multilabel: bool, options: dict[str, float], size: float) -> None:
    signs = torch.tensor([[1.0, -1, 0], [-1, 1, 0], [1, 1, -1], [-1, -1, 1]])
    x = (signs * size).requires_grad_()
    target = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0]]) if multilabel else torch.tensor([0, 0, 2, 1])
    loss = build_loss(kind, multilabel, **options)(x, target)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert float(loss.detach()) >= 0


@pytest.mark.parametrize(("kind", "multilabel"), KINDS)
def test_float32_even_under_autocast(
    kind: str, multilabel: bool, logits: Tensor, numbers: Tensor, labels: Tensor
) -> None:
    target = target_for(multilabel, numbers, labels)
    loss = build_loss(kind, multilabel)
    low = logits.bfloat16()
    expected = loss(low.float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(low, target)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_a_weight_of_one_changes_nothing(logits: Tensor, numbers: Tensor, labels: Tensor) -> None:
    for kind, multilabel in KINDS:
        target = target_for(multilabel, numbers, labels)
        option: dict[str, Any] = {"positive_weights" if multilabel else "class_weights": [1.0] * CLASSES}
        torch.testing.assert_close(
            build_loss(kind, multilabel, **option)(logits, target), build_loss(kind, multilabel)(logits, target)
        )


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: build_loss("hinge", False), "no loss 'hinge'"),
        (lambda: build_loss("cross_entropy", True), "is for one label"),
        (lambda: build_loss("asymmetric", False), "is for several labels"),
        (lambda: build_loss("auto", False, gamma=2), "no 'gamma'"),
        (lambda: build_loss("focal", False, alpha=0.5), "no 'alpha'"),
        (lambda: build_loss("focal", True, clip=0.5), "no 'clip'"),
        (lambda: build_loss("auto", True, class_weights=[1.0]), "no 'class_weights'"),
        (lambda: build_loss("auto", False, positive_weights=[1.0]), "no 'positive_weights'"),
        (lambda: build_loss("auto", False, label_smoothing=1.0), "'label_smoothing' is 1.0"),
        (lambda: build_loss("focal", False, gamma=-1), "'gamma' is -1"),
        (lambda: build_loss("asymmetric", True, clip=1.0), "'clip' is 1.0"),
        (lambda: build_loss("auto", False, class_weights=[1.0, math.nan]), "'class_weights' must be"),
        (lambda: build_loss("auto", True, positive_weights=[-1.0]), "'positive_weights' must be"),
    ],
)
def test_what_cannot_be_is_said(make: Callable[[], object], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        make()


@pytest.mark.parametrize("kind", SEVERAL_LABELS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_what_is_not_known_has_no_term_and_no_gradient(kind: str, smoothing: float) -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.tensor([[1, 0, math.nan], [0, math.nan, math.nan], [math.nan] * 3, [1, 1, 0]])
    masked = build_loss(kind, True, label_smoothing=smoothing, masked=True, reduction="none")
    plain = build_loss(kind, True, label_smoothing=smoothing, reduction="none")
    values = masked(logits, target)
    values.sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, target.isnan())
    for row in range(4):
        is_known = ~target[row].isnan()
        if is_known.any():
            alone = plain(logits[row : row + 1, is_known], target[row : row + 1, is_known])
            torch.testing.assert_close(values[row : row + 1], alone)
    assert values[2] == 0
