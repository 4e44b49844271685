"""The sanitiser, measuring, cropping and wrapping."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowq.cli.render.clean import clean, clean_lines
from flowq.cli.render.ink import Span, cells, crop, crop_middle, flowing, painted, wrap


@given(st.text(st.characters(), max_size=60))
def test_cleaned_text_holds_nothing_that_steers_a_terminal(text: str) -> None:
    assert all(char.isprintable() for char in clean(text))


def test_every_control_character_becomes_visible() -> None:
    for code in [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x200B, 0xFEFF, 0x2028, 0xE0041]:
        shown = clean(f"a{chr(code)}b")
        assert shown.startswith("a\\")
        assert shown.endswith("b")


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    for text in ("plain", "żółć", "日本語", "🎬 clip", "a [bold] b"):
        assert clean(text) == text


def test_a_block_keeps_its_lines() -> None:
    assert clean_lines("a\n\tb\x1b[2J") == ["a", "    b\\x1b[2J"]


@given(st.text(max_size=80), st.integers(8, 40))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    text = clean(text)
    rows = wrap(text, width)
    assert "".join("".join(rows).split()) == "".join(text.split())
    assert all(cells(row) <= width + width // 2 for row in rows)


def test_wrapping_keeps_the_indentation() -> None:
    assert wrap("    one two three", 12) == ["    one two", "    three"]


@given(st.text(max_size=80), st.integers(4, 40))
def test_cropped_text_fits_and_says_so(text: str, width: int) -> None:
    text = clean(text)
    for cropped in (crop(text, width, "…"), crop_middle(text, width, "…")):
        assert cells(cropped) <= width
        assert cropped == text or "…" in cropped


def test_names_that_differ_at_their_end_can_be_told_apart_when_cropped() -> None:
    assert crop_middle("encode-the-whole-film-1080", 16, "…") != crop_middle("encode-the-whole-film-720", 16, "…")


def test_items_flow_onto_the_next_line() -> None:
    lines = flowing([(Span("aaaa"),), (Span("bbbb"),), (Span("cccc"),)], 12, " · ", "  ")
    assert painted(lines, False) == "aaaa · bbbb\n  cccc\n"


def test_paint_cleans_even_a_span_that_was_made_past_the_sanitiser() -> None:
    assert "\x1b" not in painted([(Span("\x1b[31m"),)], False)
