"""What lmms-eval is told of the model "x2l", and what the model refuses."""

import pytest

pytestmark = pytest.mark.slow

WRONG = """
from lmms_eval.api.instance import Instance
from lmms_eval.models import get_model
from PIL import Image

make = get_model("x2l").create_from_arg_string
model = make("")
model.task_dict = {"album": {"test": ["a document"]}}


def about(visuals, **options):
    arguments = ("How many bells?", options, lambda document: visuals, 0, "album", "test")
    metadata = {"task": "album", "doc_id": 0, "repeats": 1}
    model.generate_until([Instance("generate_until", arguments, 0, metadata)])


for attempt in (
    lambda: make("selektor=top_k"),
    lambda: make("", {"batch_size": 8}),
    lambda: about([Image.new("RGB", (8, 8))] * 2),
    lambda: about([]),
    lambda: about(["absent.mp4"], max_tokens=4),
    lambda: about(["absent.mp4"]),
    lambda: model.loglikelihood([]),
    lambda: model.generate_until_multi_round([]),
):
    try:
        attempt()
    except ValueError as error:
        print(f"{type(error).__name__}: {error}")
"""
SAID = (
    "selektor: unknown, expected one of",
    "batch_size: expected 1",
    "album, question 0: expected the path of one video, got Image",
    "album, question 0: expected the path of one video, got none",
    "generation_kwargs.max_tokens: unknown",
    "absent.mp4: ",
    "loglikelihood: is not offered",
    "generate_until_multi_round: is not offered",
)


def test_it_is_listed(programs):
    code = "from lmms_eval.models import MODEL_REGISTRY_V2 as models; print(*models.list_model_names())"
    assert "x2l" in programs("python", "-c", code).split()


def test_what_is_wrong_is_named_in_a_line(programs):
    told = programs("python", "-c", WRONG).splitlines()
    assert len(told) == len(SAID)
    for line, said in zip(told, SAID, strict=True):
        assert line.startswith(f"X2LError: {said}")
