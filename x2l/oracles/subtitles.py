"""Likeness of the question and what is said meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import torch
from jaxtyping import Float
from torch import Tensor

from x2l.interfaces import Backbone, Oracle
from x2l.oracles._checkpoint import fingerprint
from x2l.oracles._sentence_encoder import SentenceEncoder, load_encoder
from x2l.oracles._subtitle_file import read_cues, subtitle_file
from x2l.oracles._timeline import overlap_s
from x2l.rounding import in_full_precision
from x2l.storage.fingerprint import whole_fingerprint
from x2l.types import Chunk, Question, VideoFacts, VideoIndex, X2LError

LEAST = -1.0
"""Lowest of all cosines."""


@dataclass
class Subtitles(Oracle):
    """Relevance of each chunk's subtitles to the question, by BM25 or by the cosine of sentence embeddings.

    path: a file .srt or .vtt, or a folder with files of the videos' names; None: beside the video.
    encoder: a text encoder, a checkpoint folder or the name of a model on the hub; None: BM25 with English
        stop words, which needs words that are written apart.
    device: where the encoder computes; None: where the backbone does.

    An index stores the text of each chunk, and its embedding with an encoder. What is said across a cut
    belongs to both chunks; a chunk in which nothing is said scores lowest. Abstains for a video without
    subtitles and, by BM25, where no word of the question is said.

    Source: BM25 (Robertson and Zaragoza, 2009) in its Lucene form, by bm25s (arXiv 2407.03618).
    Differs: Video-X^2L's oracles look at frames only.
    """

    not_prepared = frozenset({"encoder", "device"})  # the weights themselves are in the key

    path: str | None = None
    encoder: str | None = None
    device: str | None = None

    @property
    def identity(self) -> str:
        return "" if self.encoder is None else fingerprint(self.encoder, "oracle.encoder")

    def prepare(self, chunk: Chunk, backbone: Backbone) -> dict[str, Tensor]:
        """The text [bytes] in UTF-8, and its embedding [dim] with an encoder.

        Raises X2LError for a subtitle file that cannot be read, and for a chunk of no known video.
        """
        text = self._said(chunk)
        stored = {"text": torch.tensor(list(text.encode()), dtype=torch.uint8)}
        if self.encoder is not None:
            stored["embedding"] = self._loaded(chunk.visual_tokens.device).embed(text)
        return stored

    def beside(self, video: VideoFacts) -> str:
        path = subtitle_file(video.path, self.path)
        return "" if path is None else whole_fingerprint(path)

    def score(
        self, question: Question, index: VideoIndex, backbone: Backbone
    ) -> Float[Tensor, " chunks"] | None:
        features = self.features(index)
        texts = [bytes(stored["text"].tolist()).decode() for stored in features]
        if not any(texts):
            return None
        if self.encoder is None:
            return bm25(question.text, texts)
        asked = self._loaded(backbone.device).embed(question.text).cpu()
        with in_full_precision("cpu"):
            likeness = torch.stack([stored["embedding"].cpu() for stored in features]) @ asked
        return likeness.where(torch.tensor([bool(text) for text in texts]), LEAST)

    def _said(self, chunk: Chunk) -> str:
        video = chunk.video
        if video is None:
            raise X2LError(f"oracle subtitles: chunk {chunk.index} does not say which video it is of")
        path = subtitle_file(video.path, self.path)
        if path is None:
            return ""
        # As long as the last frame stands at most: until the next one that is sampled.
        step_s = video.duration_s / max(1, video.num_frames - 1)
        reach = float(chunk.times_s[0]), float(chunk.times_s[-1]) + step_s
        return " ".join(text for span, text in read_cues(path) if overlap_s(reach, span) > 0)

    def _loaded(self, device: torch.device) -> SentenceEncoder:
        return load_encoder(self.encoder, self.device or str(device))


def bm25(asked: str, texts: Sequence[str]) -> Float[Tensor, " texts"] | None:
    """Score of each text; None if no word of what is asked is in any."""
    query, *words = bm25s.tokenize(
        [asked, *texts], token_pattern=r"(?u)\b\w+\b", return_ids=False, show_progress=False
    )
    if not query or not any(words):
        return None
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    scores = torch.from_numpy(index.get_scores(query)).float()
    return scores if scores.any() else None
