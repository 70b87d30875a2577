"""Prompts: a file of one a line, and the one that ships."""

from pathlib import Path

import pytest

from motive.clips.prompts import read_prompts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\n\ntwo\n", "line 2 is empty"),
        ("one\ntwo\n one \n", r"line 3 repeats line 1, 'one'"),
        ("", "is empty: write"),
    ],
)
def test_bad_prompts_are_refused_with_the_line(tmp_path, text, message):
    (path := tmp_path / "prompts.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_prompts(path)


def test_the_shipped_prompts_ask_for_each_motion_five_times_in_known_words():
    from toyworld.scenes import VERBS, vocabulary

    prompts = read_prompts(Path(__file__).parents[1] / "data/prompts.txt")
    assert len(prompts) == 50
    assert not {word for prompt in prompts for word in prompt.split()} - set(vocabulary())
    assert all(sum(verb in prompt for prompt in prompts) == 5 for verb in VERBS.values())
