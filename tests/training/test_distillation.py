"""Losses of distillation beside the formulas of the article, and what a student learns where there is no label."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, rel_entr, softmax

from tellapart.training.distillation import Teacher
from tellapart.training.losses import build_loss

ROWS = np.arange(6)


def teacher(multilabel: bool, temperature: float = 3.0, share: float = 0.7, n_labelled: int = 6) -> Teacher:
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 3, (6, 4)).astype(np.float32))
    return Teacher(logits, n_labelled, multilabel, temperature, share)


def student() -> np.ndarray:
    return np.random.default_rng(2).normal(0, 2, (6, 4)).astype(np.float32)


def test_one_label_is_hintons_formula() -> None:
    taught, z, labels = teacher(False), student(), np.array([0, 1, 2, 3, 0, 1])
    lesson = taught.lesson(torch.from_numpy(labels), ROWS)
    value = taught.loss(build_loss("auto", False))(torch.from_numpy(z), lesson)
    hard = -log_softmax(z, axis=1)[ROWS, labels].mean()
    soft = rel_entr(softmax(taught.logits.numpy() / 3, axis=1), softmax(z / 3, axis=1)).sum(axis=1).mean()
    assert value.item() == pytest.approx(0.3 * hard + 0.7 * 9 * soft, rel=1e-5)


def test_several_labels_are_outputs_of_their_own() -> None:
    taught, z, labels = teacher(True), student(), np.random.default_rng(3).integers(0, 2, (6, 4))
    lesson = taught.lesson(torch.from_numpy(labels), ROWS)
    value = taught.loss(build_loss("auto", True))(torch.from_numpy(z), lesson)
    p, q = expit(taught.logits.numpy() / 3), expit(z / 3)
    hard = -(labels * np.log(expit(z)) + (1 - labels) * np.log(1 - expit(z))).mean()
    soft = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean()
    assert value.item() == pytest.approx(0.3 * hard + 0.7 * 9 * soft, rel=1e-4)


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_student_that_answers_as_its_teacher_has_nothing_left_to_learn(multilabel: bool) -> None:
    taught = teacher(multilabel, share=1.0)
    z = taught.logits.clone().requires_grad_()
    loss = taught.loss(build_loss("auto", multilabel))(z, taught.lesson(torch.zeros(6, 4), ROWS))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert z.grad is not None
    assert z.grad.abs().max() < 1e-6


def test_the_answer_takes_the_place_of_a_label_that_is_not_there() -> None:
    taught = teacher(False, n_labelled=4)
    labels = taught.lesson(torch.tensor([0, 1, 2, 3, 0, 0]), ROWS)[:, :4].numpy()
    assert np.array_equal(labels[:4], np.eye(4))
    assert np.allclose(labels[4:], softmax(taught.logits.numpy()[4:], axis=1), atol=1e-6)


def test_an_unknown_label_stays_masked() -> None:
    taught, wanted = teacher(True), torch.zeros(6, 4)
    wanted[2, 1] = torch.nan
    lesson = taught.lesson(wanted, ROWS)
    assert lesson[:, :4].isnan().sum() == 1
    z = torch.from_numpy(student()).requires_grad_()
    taught.loss(build_loss("auto", True, masked=True))(z, lesson).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
