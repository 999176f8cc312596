"""The out-of-distribution score: how unlike the known classes a picture is. In NumPy alone, for inference."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats
from tellapart.core.vectors import unit_length

_PART = 2**22  # numbers handled at a time


@dataclass(frozen=True)
class KnownClasses:
    """Class means of the features and one shared covariance, for the Mahalanobis distance to the nearest class.

    Features have length 1. The covariance is that of probabilistic principal components: full along the few directions
    of the largest spread, the same along all others. So it is well conditioned even with fewer pictures than features.

    Sources: K. Lee, K. Lee, H. Lee, J. Shin, A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks, NeurIPS 2018 (distance to class means); M. E. Tipping, C. M. Bishop, Probabilistic principal
    component analysis, JRSS B 61 (1999); M. Müller, M. Hein, Mahalanobis++: improving OOD detection via feature
    normalization, ICML 2025 (length 1 first).

    Attributes:
        means: float32 [n_means, n_features], one a class that has pictures.
        basis: float32 [n_features, k], orthonormal: the directions of the largest spread.
        spread: float32 [k], variances along them.
        rest: the variance along every other direction.
    """

    means: npt.NDArray[np.float32]
    basis: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]
    rest: float

    def distance(self, features: npt.ArrayLike) -> Floats:
        """Mahalanobis distance to the nearest class / √n_features: about 1 for a picture of a known class.

        Args:
            features: [n, n_features].

        Returns:
            float64 [n].
        """
        rows = np.asarray(features, np.float32)
        step = max(1, _PART // max(rows.shape[1], len(self.means)))
        parts = [self._distance(rows[start : start + step]) for start in range(0, len(rows), step)]
        return np.concatenate([np.empty(0), *parts])

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Named tensors, for a safetensors file."""
        rest = np.array([self.rest], np.float32)
        return {"means": self.means, "basis": self.basis, "spread": self.spread, "rest": rest}

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[np.float32]]) -> KnownClasses:
        """The inverse of `tensors`.

        Raises:
            ValueError: one is missing, shapes do not belong together, or a variance is not above 0.
        """
        if tensors.keys() != {"means", "basis", "spread", "rest"} or any(
            t.dtype != np.float32 for t in tensors.values()
        ):
            raise ValueError(f"means, basis, spread and rest are needed, not {', '.join(tensors)}")
        means, basis, spread, rest = (tensors[name] for name in ("means", "basis", "spread", "rest"))
        if means.ndim != 2 or not means.size or basis.shape != (means.shape[1], len(spread)) or spread.ndim != 1:
            raise ValueError(f"means {means.shape}, basis {basis.shape} and spread {spread.shape} do not fit")
        numbers = all(np.isfinite(tensor).all() for tensor in tensors.values())
        if not numbers or rest.shape != (1,) or rest[0] <= 0 or (spread <= 0).any():
            raise ValueError("it holds something that is no number, or a variance that is not above 0")
        return cls(means, basis, spread, float(rest[0]))

    def _distance(self, features: npt.NDArray[np.float32]) -> Floats:
        x = unit_length(features).astype(np.float64)
        means, basis = self.means.astype(np.float64), self.basis.astype(np.float64)
        scale = 1 / np.sqrt(self.spread.astype(np.float64))
        # |x - m|² has a part along the basis, where each direction has its own unit, and a rest beside it.
        along, mean_along = x @ basis, means @ basis
        whole = _squares(x, means)
        inside = _squares(along, mean_along)
        own = _squares(along * scale, mean_along * scale)
        squared = own + (whole - inside).clip(0) / self.rest
        return np.asarray(np.sqrt(squared.clip(0).min(axis=1) / x.shape[1]))


@dataclass(frozen=True)
class OodScore:
    """The out-of-distribution score and the limit above which a picture is unknown.

    The score is the sum of two standardised values: the distance to the known classes and the doubt (1 - certainty).
    The distance rises for what is far from all classes, the doubt for what lies between them.

    Attributes:
        distance, doubt: mean and standard deviation over validation pictures.
        limit: a picture with a higher score is unknown.
        share: this share of pictures of known classes, or more, is expected at or below the limit.
        n: number of validation pictures behind the limit.
        by_default: whether a bundle answers "unknown" where nothing else is asked for.
    """

    distance: tuple[float, float]
    doubt: tuple[float, float]
    limit: float
    share: float
    n: int
    by_default: bool = True

    def of(self, distance: npt.ArrayLike, certainty: npt.ArrayLike) -> Floats:
        """Scores [n]: about 0 for a picture of a known class, higher for one that is unlike all classes.

        Args:
            distance: [n], as `KnownClasses.distance` gives it.
            certainty: [n], the highest calibrated probability.
        """
        far = (np.asarray(distance, np.float64) - self.distance[0]) / self.distance[1]
        unsure = (1 - np.asarray(certainty, np.float64) - self.doubt[0]) / self.doubt[1]
        return np.asarray(far + unsure)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> OodScore:
        """The inverse of `as_dict`."""
        pairs = {name: (float(values[name][0]), float(values[name][1])) for name in ("distance", "doubt")}
        return cls(**{**values, **pairs})


def _squares(x: Floats, means: Floats) -> Floats:
    """Squared Euclidean distances [n, n_classes]."""
    return np.asarray((x**2).sum(axis=1)[:, None] - 2 * x @ means.T + (means**2).sum(axis=1))
