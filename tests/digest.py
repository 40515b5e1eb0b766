"""What x2l computes for the sample video, in one small file: `python tests/digest.py` prints it.

Answers and plans are compared as they are, keys and values by norms in five digits, which hold on any CPU,
and by their bytes (`sha256`), which hold on one machine: run it before and after a refactor and compare.
"""

import hashlib
import json
import sys
import warnings
from pathlib import Path

import torch

import x2l
from x2l.video import open_video

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples" / "needles.mp4"
COMPRESSORS = ("vst", "mean_pool", "low_resolution", "identity")
ORACLES = ("attention", "dual_encoder", "llm_attention", "annotated")
NUM_QUESTIONS = 4


def digest() -> dict:
    """Answers and plans of each oracle, KVs of each compressor."""
    backbone = x2l.build("backbone", "x2l_tiny")
    found = {"kvs": {}, "answers": {}}
    for name in COMPRESSORS:
        index = _pipeline(backbone, name, "attention").index(open_video(SAMPLE))
        found["kvs"][name] = {
            str(ratio): _of_kvs([chunk.levels[ratio].materialise() for chunk in index.chunks])
            for ratio in index.ratios
        }
    for name in ORACLES:
        pipeline = _pipeline(backbone, "vst", name)
        index = pipeline.index(open_video(SAMPLE))
        answers = pipeline.ask_many(index, questions())
        found["answers"][name] = [_of_answer(answer) for answer in answers]
    return found


def questions() -> list:
    """The first questions about the sample video, with their gold spans."""
    records = json.loads((ROOT / "examples" / "questions.json").read_text())[:NUM_QUESTIONS]
    return [x2l.Question(record["question"], gold_spans_s=_spans(record)) for record in records]


def _spans(record):
    return tuple(map(tuple, record.get("gold_spans_s") or ())) or None


def _pipeline(backbone, compressor, oracle):
    selector = x2l.build("selector", {"name": "top_k", "k": 3})
    parts = (x2l.build("compressor", compressor), x2l.build("oracle", oracle))
    return x2l.Pipeline(backbone, *parts, selector)


def _of_kvs(kvs) -> dict:
    tensors = [tensor for kv in kvs for tensor in (kv.keys, kv.values)]
    content = b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)
    return {
        "tokens": [kv.num_tokens for kv in kvs],
        "positions": [int(kv.positions.sum()) for kv in kvs],
        "norms": [float(f"{tensor.double().norm():.5g}") for tensor in tensors],
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _of_answer(answer) -> dict:
    scores = answer.plan.scores
    return {
        "text": answer.text,
        "ratios": list(answer.plan.ratios),
        "scores": scores and [float(f"{score:.3g}") for score in scores],
        "kv_tokens": answer.kv_tokens,
        "kv_bytes": answer.kv_bytes,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    json.dump(digest(), sys.stdout, indent=1)
