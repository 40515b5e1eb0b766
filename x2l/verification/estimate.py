"""What `x2l estimate` counts, for the sizes of a checkpoint in place of those of a published model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from x2l.costs.dry_run import Sheet, dry_run
from x2l.costs.flops import DecoderSizes
from x2l.costs.sizes import BackboneSizes
from x2l.engine.language_model import LanguageModelBackbone
from x2l.interfaces import Selector
from x2l.pipeline import Pipeline
from x2l.types import Plan
from x2l.verification.subject import Subject


def estimated(subject: Subject, pipeline: Pipeline, plan: Plan) -> Sheet | None:
    """Costs of the subject's video and of a question with this plan; None where no sizes are declared."""
    backbone = subject.backbone
    sizes = _sizes(subject, backbone)
    if sizes is None:
        return None
    sheet = dry_run(
        sizes,
        pipeline.compressor,
        _Planned(plan),
        pipeline.ratios,
        subject.video.num_frames,
        subject.chunk_frames,
        backbone.geometry.dtype,
        len(subject.ids),
    )
    return replace(sheet, weight_bytes=weight_bytes(backbone))


@dataclass
class _Planned(Selector):
    """On paper no chunk is more relevant than another: which ones are chosen is given."""

    plan: Plan

    def choose(self, scores, index):
        return self.plan


def weight_bytes(backbone: LanguageModelBackbone) -> int:
    return sum(parameter.nbytes for parameter in backbone.model.parameters())


def _sizes(subject: Subject, backbone: LanguageModelBackbone) -> BackboneSizes | None:
    chunk, published = subject.chunk, type(backbone).sizes
    visual = backbone.tokens_per_step(*chunk.frames.shape[1:3], chunk.num_frames)
    if published is None or visual is None:
        return None
    num_text = 0 if chunk.is_text is None else int(chunk.is_text.sum())
    return replace(
        published,
        decoder=decoder_sizes(backbone),
        tokens_per_step=visual,
        text_per_step=round(num_text / chunk.num_steps),
        prompt=len(backbone.prompt_ids(chunk.video)),
        budget=None,
    )


def decoder_sizes(backbone: LanguageModelBackbone) -> DecoderSizes:
    """Those of the model that is loaded."""
    config, geometry = backbone.decoder.config, backbone.geometry
    return DecoderSizes(
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        layers=geometry.num_layers,
        heads=config.num_attention_heads,
        kv_heads=geometry.num_kv_heads,
        head_dim=geometry.head_dim,
        vocab=config.vocab_size,
        tied=bool(backbone.model.config.tie_word_embeddings),
    )
