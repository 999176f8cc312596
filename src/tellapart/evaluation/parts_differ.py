"""Whether validation and test scores differ by more than chance allows: then one of them is not what it seems."""

from __future__ import annotations

from tellapart.core.scores import Evaluation
from tellapart.evaluation import significance


def parts_differ(validation: Evaluation, test: Evaluation) -> str:
    """A sentence where the two scores differ beyond chance (Fisher's exact test, p < 0.01); "" where they do not.

    Compared is the share of pictures answered rightly: accuracy, or with several labels the exact match.
    """
    name = "exact_match" if validation.multilabel else "accuracy"
    shares = validation.metrics[name], test.metrics[name]
    right = [round(share.value * share.n) for share in shares]
    p = significance.two_shares(right[0], shares[0].n, right[1], shares[1].n)
    if p >= 0.01:
        return ""
    scores = f"Validation says {100 * shares[0].value:.1f} %, the test {100 * shares[1].value:.1f} %"
    return f"{scores}: more than chance allows (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})."
