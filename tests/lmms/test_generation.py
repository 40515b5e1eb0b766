"""generation_kwargs of lmms-eval's tasks, as options of asking."""

import pytest

from x2l.errors import X2LError
from x2l.lmms.generation import generation_from, until


@pytest.mark.parametrize(
    ("kwargs", "options"),
    [
        ({}, {}),
        # As the tasks of MLVU and Video-MME give them.
        (
            {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False},
            {"max_new_tokens": 16, "num_beams": 1},
        ),
        ({"until": ["\n\n"], "temperature": 0}, {"stop_strings": ["\n\n"]}),
        ({"until": "USER", "top_p": None}, {"stop_strings": ["USER"]}),
        ({"until": [], "top_k": 3}, {}),
        ({"temperature": 0.7, "seed": 1}, {"temperature": 0.7, "seed": 1, "do_sample": True}),
        ({"do_sample": True, "top_p": 0.9}, {"top_p": 0.9, "do_sample": True}),
        ({"do_sample": True, "temperature": 0}, {}),
        ({"do_sample": False, "temperature": 0.7}, {}),
    ],
)
def test_what_a_task_says_is_what_is_asked_for(kwargs, options):
    assert generation_from(kwargs) == options


def test_what_means_nothing_is_refused():
    with pytest.raises(X2LError, match=r"^generation_kwargs\.max_tokens: unknown, .*'max_new_tokens'\?$"):
        generation_from({"max_tokens": 16})


def test_a_text_ends_in_front_of_the_first_stop():
    assert until("red, green; blue", [";", ","]) == "red"
    assert until("red", [";"]) == "red"
