"""What of a page's text is shown with a hit."""

from cluster.text.snippets import snippet


def test_a_snippet_shows_the_words_that_matched() -> None:
    text = "intro " * 200 + "the torque of the flange bolt is 42 Nm " + "outro " * 200
    shown = snippet(text, "flange torque", chars=80)
    assert "torque" in shown
    assert "flange" in shown
    assert len(shown) <= 82
    assert snippet("short", "anything", chars=80) == "short"
