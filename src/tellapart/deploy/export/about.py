"""What an exported network says of itself, and which abilities of the bundle it does not have."""

from __future__ import annotations

import json

from tellapart.core.version import __version__
from tellapart.deploy.bundle.read import Bundle


def metadata(bundle: Bundle) -> dict[str, str]:
    """Texts by name, as formats store them: all that is needed to use a network's outputs, lists as JSON."""
    return {
        "classes": json.dumps(bundle.classes),
        "multilabel": json.dumps(bundle.multilabel),
        "preprocessing": json.dumps(bundle.preprocessing.as_dict()),
        "temperature": json.dumps(bundle.temperature),
        "thresholds": json.dumps(bundle.thresholds),
        "sets": json.dumps({str(level): threshold for level, threshold in bundle.sets.items()}),
        "made_with": f"Tellapart {__version__}",
    }


def left_out(bundle: Bundle, probabilities: bool = True) -> tuple[str, ...]:
    """The abilities that a plain network does not have, as sentences.

    Args:
        bundle: what is exported.
        probabilities: whether the export gives calibrated probabilities.
    """
    sentences = []
    if not probabilities:
        sentences.append("It gives logits; certainty is softmax or sigmoid of logits / temperature, which it names.")
    if bundle.ood_score is not None:
        sentences.append("It does not answer “unknown”: pictures unlike all classes get one of them.")
    if bundle.multilabel:
        sentences.append("Which labels apply is left to its user; it names their thresholds.")
    if bundle.sets:
        sentences.append("Prediction sets are left to its user; it names their thresholds.")
    if bundle.tta:
        sentences.append(f"It looks at a picture once, without the {bundle.tta} changed copies of the bundle.")
    return tuple(sentences)
