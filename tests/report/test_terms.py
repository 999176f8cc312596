"""Terms in a page: marked once a text, escaped, and explained once a page."""

from __future__ import annotations

from tellapart.report.terms import Terms


def test_a_term_opens_its_meaning_and_names_stay_escaped() -> None:
    terms = Terms()
    text = terms.marked("trains the head; the head of <b>temperature</b> & frozenness, overhead")
    assert text.count('popovertarget="term-head"') == 1
    assert "&lt;b&gt;<button" in text
    assert "&lt;/b&gt; &amp; frozenness, overhead" in text
    assert terms.marked("nothing here") == "nothing here"
    assert [term for _, term, _ in terms.meanings()] == ["head", "temperature"]
    assert terms.marked("a \x1b[0m name") == "a \u241b[0m name"


def test_a_longer_phrase_goes_before_the_words_in_it() -> None:
    terms = Terms()
    assert terms.marked("one penalty on large weights: the last layer is solved").count("<button") == 2
    assert [anchor for anchor, *_ in terms.meanings()] == ["term-last-layer", "term-penalty-on-large-weights"]
