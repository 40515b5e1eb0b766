"""The identity law from the pixels on: against a whole model of transformers behind its own processor."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoProcessor, BatchFeature
from transformers.video_utils import VideoMetadata

from x2l.engine.adapters import base_of
from x2l.engine.stock import StockBackbone
from x2l.errors import X2LError
from x2l.storage.hub import one_line
from x2l.types import Clip, Question
from x2l.verification.checks import NotApplicable
from x2l.verification.identity import WRITING, same_model
from x2l.verification.subject import Subject


def stock(subject: Subject) -> str:
    """x2l in chunks is the model's own forward and generate() on what its own processor makes."""
    if not issubclass(subject.backbone_class, StockBackbone):
        raise NotApplicable("transformers has no such model")
    try:
        import torchvision  # noqa: F401, what every video processor of transformers needs
    except Exception as error:  # beside another build of torch it fails in ways of its own
        raise NotApplicable(f"its own processor needs torchvision, {one_line(error)}") from error
    return same_as_stock(processed(base_of(subject.folder), subject.clip, subject.question), subject)


def processed(folder: Path, clip: Clip, question: Question) -> BatchFeature:
    """Ids and pixels of a clip with one frame a second and a question, by the checkpoint's own processor."""
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    parts = [{"type": "video"}, {"type": "text", "text": question.text}]
    messages = [{"role": "user", "content": parts}]
    num_frames = len(clip.frames)
    metadata = VideoMetadata(
        total_num_frames=num_frames,
        fps=1.0,
        duration=float(num_frames),
        frames_indices=list(range(num_frames)),
    )
    return processor(
        text=[processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)],
        videos=[torch.from_numpy(clip.frames).permute(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
    )


@torch.no_grad()
def same_as_stock(inputs: BatchFeature, subject: Subject) -> str:
    """Raises X2LError if the model reads, finds or writes something else on `inputs` than x2l does."""
    backbone, ids = subject.backbone, subject.ids
    inputs = inputs.to(backbone.device, backbone.model.dtype)
    inputs.pop("video_metadata", None)
    read = inputs["input_ids"][0]
    length = subject.cache(subject.in_chunks).get_seq_length() + len(ids)
    if length != len(read) or not read[-len(ids) :].equal(ids):
        raise X2LError(f"x2l reads {length} tokens, the model's own processor makes {len(read)}, or others")
    logits = backbone.model(**inputs, logits_to_keep=len(ids)).logits[0].float()
    written = backbone.model.generate(**inputs, **WRITING, repetition_penalty=1.0)[0, len(read) :]
    return same_model(logits, written, subject)
