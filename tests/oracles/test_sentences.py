"""A question of several sentences is asked sentence by sentence."""

from dataclasses import dataclass

import torch
from models import bare_index, tiny_backbone

from x2l.interfaces import Oracle
from x2l.oracles.sentences import Sentences, sentences
from x2l.standard_scores import standard_scores
from x2l.types import Question

SCORES = {
    "Where is the cat?": torch.tensor([0.0, 9.0, 1.0, 0.0, 0.0]),
    "And the dog?": torch.tensor([50.0, 10.0, 20.0, 90.0, 10.0]),
    "Where is the cat? And the dog?": torch.tensor([1.0, 2.0, 7.0, 1.0, 1.0]),
}


@dataclass
class Known(Oracle):
    def score(self, question, index, backbone):
        return SCORES.get(question.text)


def score(text, **options):
    return Sentences(inner=Known(), **options).score(Question(text), bare_index(5), tiny_backbone())


def test_each_sentence_has_its_chunk():
    apart = score("Where is the cat? And the dog?", whole=False)
    assert apart.topk(2).indices.tolist() == [1, 3]
    expected = torch.stack([standard_scores(SCORES[text]) for text in list(SCORES)[:2]]).amax(dim=0)
    torch.testing.assert_close(apart, expected)


def test_and_so_has_the_question_as_one():
    both = score("Where is the cat? And the dog?")
    assert both.topk(3).indices.sort().values.tolist() == [1, 2, 3]
    for single in ("Where is the cat?", "Look closely. Where is the cat?"):
        torch.testing.assert_close(score(single), score(single, whole=False))


def test_a_single_sentence_keeps_its_order_and_an_unknown_one_does_not_count():
    cat = standard_scores(SCORES["Where is the cat?"])
    torch.testing.assert_close(score("Where is the cat?"), cat)
    torch.testing.assert_close(score("Look closely. Where is the cat?"), cat)
    assert score("Look closely. Well?") is None


def test_sentences_end_where_they_end():
    assert sentences(" At 3.5 s? Who... and why! ") == ["At 3.5 s?", "Who...", "and why!"]
    assert sentences("谁来了？为什么？") == ["谁来了？", "为什么？"]
    assert sentences("no end") == ["no end"] and sentences("") == [""]
