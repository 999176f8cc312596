"""Exports a bundle to ONNX with weights and activations in whole numbers of 8 bits, and measures what that loses."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.extras import require
from tellapart.core.files import replacing
from tellapart.core.onnxruntime_quiet import load_onnxruntime
from tellapart.core.preprocess import Pixels
from tellapart.core.text import counted, percent
from tellapart.deploy.bundle.read import MODEL, Bundle
from tellapart.deploy.export.about import left_out
from tellapart.deploy.export.exported import Exported, golden_difference
from tellapart.deploy.export.onnx_file import OnnxModel, network_with_probabilities
from tellapart.errors import BundleError, UsageError
from tellapart.evaluation.significance import share_interval

_CALIBRATED_ON = 128  # pictures, whose activations set the ranges
_BATCH = 16
_ALLOWED = 0.5  # of the logits' size; the judgement is that of the validation pictures


def export_int8(
    bundle: Bundle, path: Path, pictures: Pixels, target: npt.NDArray[Any], max_loss: float = 0.01
) -> Exported:
    """Write the file, whole or not at all.

    Args:
        bundle: the classifier.
        path: of the file.
        pictures: validation pictures, uint8 [n, height, width, 3], preprocessed.
        target: their labels: class numbers [n], or 0 and 1 [n, n_classes].
        max_loss: share of the pictures, 0 to 1, that it may name wrong more than float32 does.

    Raises:
        BundleError: it loses more than that.
        UsageError: there are no validation pictures.
        MissingExtraError: onnx is not installed.
    """
    if not len(pictures):
        raise UsageError("There are no validation pictures to set the ranges of 8 bits with.", "Use --to onnx.")
    require("onnx", "Exporting to 8 bits", "train")
    before = _right(bundle, bundle.predict_pixels(pictures), target)
    with tempfile.TemporaryDirectory() as name:
        quantised = Path(name) / "int8.onnx"
        _quantise(bundle.folder / MODEL, quantised, pictures[:_CALIBRATED_ON])
        model = network_with_probabilities(bundle, quantised)
    answers = OnnxModel(model)
    note = judged(before, _right(bundle, answers.logits(pictures), target), max_loss)
    difference = golden_difference(bundle, answers.logits, _ALLOWED, "8-bit file")
    with replacing(path) as beside:
        beside.write_bytes(model.SerializeToString())
    return Exported(path, difference, left_out(bundle), note)


def _right(bundle: Bundle, logits: npt.NDArray[np.floating], target: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each picture has its label, or all of its labels."""
    if not bundle.multilabel:
        return np.asarray(logits.argmax(axis=1) == target)
    chosen = bundle.probabilities(logits) >= np.asarray(bundle.thresholds)
    return np.asarray((chosen == (target > 0)).all(axis=1))


def judged(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], max_loss: float) -> str:
    """A sentence on the loss.

    Raises:
        BundleError: it is more than allowed.
    """
    n, only_before, only_after = len(before), int((before & ~after).sum()), int((after & ~before).sum())
    loss = (only_before - only_after) / n
    low, high = share_interval(only_after, only_before, n)
    note = (
        f"In 8 bits it is right for {percent(after.mean())} of {counted(n, 'validation picture')} instead of "
        f"{percent(before.mean())}: {100 * loss:.1f} points lost (95 % interval: {100 * low:.1f} to {100 * high:.1f})."
    )
    if loss > max_loss:
        raise BundleError(f"No 8-bit file was written. {note}", f"Allow more with --max-loss {loss + 0.005:.2f}.")
    return note


def _quantise(source: Path, path: Path, pictures: Pixels) -> None:
    """Set the ranges of all activations by pictures, and write the network in 8 bits."""
    load_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands out batches, and None at the end, as onnxruntime asks for them."""

        def __init__(self) -> None:
            self.batches = iter(range(0, len(pictures), _BATCH))

        def get_next(self) -> dict[str, Pixels] | None:
            start = next(self.batches, None)
            return None if start is None else {"pictures": pictures[start : start + _BATCH]}

    prepared = path.with_suffix(".prepared.onnx")
    logging.getLogger().disabled, was_disabled = True, logging.getLogger().disabled  # its advice is for developers
    try:
        quant_pre_process(source, prepared)
        # One bit less for weights: processors without VNNI add two products in 16 bits, which would overflow.
        quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.getLogger().disabled = was_disabled
