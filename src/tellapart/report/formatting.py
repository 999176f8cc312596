"""Numbers and names as people read them. Nothing here is escaped: the page does that."""

from __future__ import annotations

import math

from tellapart.core import scores
from tellapart.core.scores import BEFORE_RETRAINING, Evaluation, Metric
from tellapart.core.text import percent as plain_percent
from tellapart.core.text import visible as visible_text

#: What a metric means, in a few words. The names are scikit-learn's.
MEANING = {
    "accuracy": "share of pictures named right",
    "top_5_accuracy": "share of pictures whose name is among the first five answers",
    "balanced_accuracy": "mean over the classes of the share named right, so that small classes count as much",
    "precision": "share of the labels answered that were given",
    "recall": "share of the labels given that were answered",
    "f1": "one number for precision and recall (their harmonic mean)",
    "label_accuracy": "share of labels that are right, given or not; high wherever labels are rare",
    "exact_match": "share of pictures with every label right, none missing and none too many",
    "log_loss": "how surprised the model is by the given labels; 0 is best",
    "mean_average_precision": "how well each label's pictures are ranked before the others, averaged over labels",
}
_AVERAGES = {
    "macro": "mean over classes, each counting the same",
    "micro": "over all labels of all pictures together",
    "weighted": "mean over classes, each counting by its number of pictures",
    "samples": "mean over pictures",
}
_CONTROL_PICTURES = {**{code: 0x2400 + code for code in range(32)}, 0x7F: 0x2421}
_THIN = "\u202f"  # narrow no-break space
#: The certainty of every interval.
SURE = f"95{_THIN}%"


def plain(name: str) -> str:
    """Name of a metric in words: "f1_macro" → "F1, macro"."""
    stem, _, average = name.rpartition("_")
    if average in _AVERAGES and stem:
        return f"{plain(stem)}, {average}"
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def meaning(name: str) -> str:
    """Meaning of a metric in words; "" where that is not known."""
    if name in MEANING:
        return MEANING[name]
    stem, _, average = name.rpartition("_")
    if average in _AVERAGES and stem in MEANING:
        return f"{MEANING[stem]}; {_AVERAGES[average]}"
    return ""


def is_share(name: str, value: float) -> bool:
    """True for metrics between 0 and 1 that are read as a percentage."""
    return scores.is_share(name) and 0 <= value <= 1


def percent(share: float, decimals: int = 1) -> str:
    """0.924 → "92.4 %"; "–" where it is not known."""
    return plain_percent(share, decimals)


def short_percent(share: float) -> str:
    """0.924 → "92.4 %", 0.9 → "90 %": for axes."""
    return f"{f'{100 * share:.1f}'.removesuffix('.0')}{_THIN}%"


def number(share: float, decimals: int = 1) -> str:
    """0.924 → "92.4", without the sign; "–" where it is not known."""
    return "–" if not math.isfinite(share) else f"{100 * share:.{decimals}f}"


def certainty(share: float) -> str:
    """A probability for people: never "100 %" for one below 1, never "0 %" for one above 0."""
    if not math.isfinite(share):
        return "–"
    if share >= 0.9995:
        return f"over 99.9{_THIN}%"
    if share < 0.005:
        return f"under 1{_THIN}%" if share < 0.0005 else percent(share)
    return percent(share, 1 if share > 0.985 else 0)


def score(name: str, value: float) -> str:
    """A metric's value as it is shown: a percentage where it is a share, else three decimals."""
    return scores.score_text(name, value)


def interval(name: str, metric: Metric) -> str:
    """The 95 % interval, with the unit once: "89.8 to 94.5 %"."""
    return scores.interval_text(name, metric)


def chance(p: float) -> str:
    """A p-value: "0.034", "under 0.001"."""
    return "under 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def count(n: int) -> str:
    """3607 → "3,607"."""
    return f"{n:,}"


def duration(seconds: float) -> str:
    """192.4 → "3 min 12 s"."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def visible(text: str) -> str:
    """As `core.text.visible`, with one sign for each control character, which pages have fonts for: ␊ for a newline."""
    return visible_text(text.translate(_CONTROL_PICTURES))


def shortened(text: str, most: int = 20) -> str:
    """A name cut in the middle, because names that begin alike are told apart by their ends."""
    text = visible(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - most // 2 + 1 :]}"


def sentence(evaluation: Evaluation) -> str:
    """The score in plain language, for someone who has never heard of a metric."""
    metrics = evaluation.metrics
    relation = {
        "train": "it was trained on",
        "validation": "it was not trained on",
        BEFORE_RETRAINING: "it was not trained on",
    }.get(evaluation.on, "it has not seen")
    if not evaluation.multilabel and "accuracy" in metrics:
        base, right, span = _of(metrics["accuracy"])
        return f"Of {base} pictures {relation}, it names {right} right ({SURE}: {span})."
    precision, recall = _first(metrics, "precision"), _first(metrics, "recall")
    if evaluation.multilabel and precision and recall:
        base, share, span = _of(recall)
        first = f"Of {base} labels that belong to pictures {relation}, it finds {share} ({SURE}: {span})."
        base, right, span = _of(precision)
        return f"{first} Of {base} labels that it answers, {right} are right ({SURE}: {span})."
    name, metric = evaluation.headline
    return f"{plain(name)} on pictures {relation}: {score(name, metric.value)} ({SURE}: {interval(name, metric)})."


def _first(metrics: dict[str, Metric], stem: str) -> Metric | None:
    """The metric of this name, or its micro average, or any other average."""
    names = [stem, f"{stem}_micro", *(name for name in metrics if name.startswith(f"{stem}_"))]
    return next((metrics[name] for name in names if name in metrics), None)


def _of(metric: Metric) -> tuple[str, str, str]:
    """A share in counts: its base, about how many of it, and the interval "from to".

    It is out of 100, or out of 1,000 where 100 would round the failures away and there are pictures enough.
    """
    base = 1000 if metric.value > 0.985 and metric.n >= 1000 else 100
    about, low, high = (round(base * value) for value in (metric.value, metric.low, metric.high))
    part = f"about {count(about)}"
    if about == base:
        part = f"all {count(base)}" if metric.value == 1 else f"more than {count(base - 1)}"
    return count(base), part, f"{count(low)} to {count(high)}"
