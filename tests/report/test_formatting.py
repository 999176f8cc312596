import pytest

from tellapart.core.scores import Evaluation, Metric
from tellapart.report import formatting


def flat(text: str) -> str:
    return text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.924, "92 %"),
        (0.98, "98 %"),
        (0.991, "99.1 %"),
        (0.9999, "over 99.9 %"),
        (1.0, "over 99.9 %"),
        (0.003, "0.3 %"),
        (0.0, "under 1 %"),
        (float("nan"), "–"),
    ],
)
def test_certainty_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert flat(formatting.certainty(share)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.14, "3.1 s"), (59.4, "59 s"), (192.4, "3 min 12 s"), (7260, "2 h 1 min"), (59.9, "1 min 0 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_metric_names_in_words() -> None:
    assert formatting.plain("f1_macro") == "F1, macro"
    assert formatting.plain("log_loss") == "Log loss"
    assert formatting.plain("top_5_accuracy") == "Top 5 accuracy"
    assert "each counting the same" in formatting.meaning("f1_macro")
    assert formatting.meaning("never_heard_of") == ""


def test_scores_are_percentages_but_losses_are_not() -> None:
    assert flat(formatting.score("accuracy", 0.9237)) == "92.4 %"
    assert formatting.score("log_loss", 0.2314) == "0.231"
    assert flat(formatting.interval("accuracy", Metric(0.92, 0.898, 0.9451, 540))) == "89.8 to 94.5 %"
    assert formatting.interval("log_loss", Metric(0.2, 0.1, 0.3, 540)) == "0.100 to 0.300"


def evaluation(metrics: dict[str, Metric], multilabel: bool = False, on: str = "test") -> Evaluation:
    return Evaluation(on, multilabel, 540, ("a", "b"), metrics)


def test_a_share_that_is_not_known_has_no_sign() -> None:
    assert formatting.percent(float("nan")) == "–"


def test_sentence_for_one_label() -> None:
    told = formatting.sentence(evaluation({"accuracy": Metric(0.9204, 0.894, 0.943, 540)}))
    assert flat(told) == "Of 100 pictures it has not seen, it names about 92 right (95 %: 89 to 94)."


@pytest.mark.parametrize(
    ("metric", "part"),
    [
        (Metric(0.9931, 0.991, 0.9948, 10_000), "Of 1,000 pictures it has not seen, it names about 993 right"),
        (Metric(0.998, 0.98, 1.0, 500), "it names more than 99 right"),
        (Metric(1.0, 0.99, 1.0, 500), "it names all 100 right"),
    ],
)
def test_sentence_does_not_round_failures_away(metric: Metric, part: str) -> None:
    assert part in formatting.sentence(evaluation({"accuracy": metric}))


def test_sentence_for_several_labels_speaks_of_both_kinds_of_error() -> None:
    metrics = {
        "f1_micro": Metric(0.77, 0.75, 0.79, 540),
        "precision_micro": Metric(0.78, 0.76, 0.8, 540),
        "recall_micro": Metric(0.76, 0.74, 0.79, 540),
    }
    told = flat(formatting.sentence(evaluation(metrics, multilabel=True)))
    assert "it finds about 76 (95 %: 74 to 79)" in told
    assert "about 78 are right (95 %: 76 to 80)" in told


def test_sentence_says_when_pictures_were_not_unseen() -> None:
    metric = Metric(0.9, 0.8, 0.95, 100)
    assert "it was not trained on" in formatting.sentence(evaluation({"accuracy": metric}, on="validation"))
    assert "it was trained on" in formatting.sentence(evaluation({"accuracy": metric}, on="train"))


def test_sentence_for_any_other_headline() -> None:
    told = flat(formatting.sentence(evaluation({"log_loss": Metric(0.5, 0.4, 0.6, 100)})))
    assert told == "Log loss on pictures it has not seen: 0.500 (95 %: 0.400 to 0.600)."


def test_visible_shows_what_cannot_be_seen() -> None:
    assert formatting.visible("a\nb\x00\x7f") == "a␊b␀␡"
    assert formatting.visible("bad\udc80.jpg") == "bad\\udc80.jpg"
    assert formatting.visible("日本の柴犬") == "日本の柴犬"


def test_shortened_keeps_both_ends() -> None:
    assert formatting.shortened("Oatly Oat-Milk Yoghurt Natural", 20) == "Oatly Oat-…t Natural"
    assert len(formatting.shortened("x" * 300, 20)) == 20
    assert formatting.shortened("short", 20) == "short"
