"""Distillation: a student learns from a teacher's answers beside the labels.

Hinton, Vinyals & Dean 2015, arXiv 1503.02531. The teacher answers each picture once, without augmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tellapart.training.losses import Loss

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Teacher:
    """The answers of a teacher to the pictures of a training.

    Attributes:
        logits: float32 [n, n_classes], calibrated, of the rows of the catalog; on the CPU.
        n_labelled: rows from this number on have no label of their own.
        multilabel: whether a picture may have none or several labels.
        temperature: above 0; both networks' logits are divided by it. The higher, the more the student hears of the
            classes that the teacher thinks less probable.
        share: of the loss that is the teacher's, 0 to 1; the rest is that of the labels.
    """

    logits: Tensor
    n_labelled: int
    multilabel: bool
    temperature: float
    share: float

    def lesson(self, wanted: Tensor, rows: Rows) -> Tensor:
        """Labels and softened answers side by side, float32 [n, 2 × n_classes], so that both can be mixed alike.

        The answers take the place of a label that is not there.

        Args:
            wanted: the target of these rows, as losses take it.
            rows: of the catalog [n].
        """
        logits = self.logits[rows].to(wanted.device)
        labels = wanted.float() if wanted.ndim == 2 else F.one_hot(wanted, logits.shape[1]).float()
        has_label = torch.from_numpy(np.asarray(rows) < self.n_labelled).to(wanted.device)[:, None]
        return torch.cat([torch.where(has_label, labels, self._shares(logits)), self._softened(logits)], dim=1)

    def loss(self, of_labels: Loss) -> Loss:
        """The loss of logits and a lesson: (1 - share) × that of the labels + share × temperature² × KL divergence.

        The divergence is from the student's to the teacher's softened probabilities; with several labels that of each
        output, averaged. Its gradient falls with the square of the temperature, which the factor makes good.
        """

        def loss(logits: Tensor, lesson: Tensor) -> Tensor:
            labels, answers = lesson.chunk(2, dim=1)
            soft = logits / self.temperature
            if self.multilabel:
                entropy = F.binary_cross_entropy(answers, answers)
                divergence = F.binary_cross_entropy_with_logits(soft, answers) - entropy
            else:
                divergence = F.kl_div(soft.log_softmax(1), answers, reduction="batchmean")
            return (1 - self.share) * of_labels(logits, labels) + self.share * self.temperature**2 * divergence

        return loss

    def _softened(self, logits: Tensor) -> Tensor:
        return self._shares(logits / self.temperature)

    @property
    def _shares(self) -> Callable[[Tensor], Tensor]:
        return torch.sigmoid if self.multilabel else _softmax


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)
