"""The dual encoder of the oracle `dual_encoder`: a stock CLIP that finds the scenes a question is about."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict

import torch
from einops import einsum
from jaxtyping import Bool, Float
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionModel, PreTrainedTokenizerFast

from x2l.from_scratch.dual_encoder_recipe import DualEncoderSizes
from x2l.from_scratch.module import TrainingModule
from x2l.from_scratch.optim import muon_and_adamw
from x2l.from_scratch.scene_batches import SceneBatch
from x2l.needles.vocabulary import TURN_END, build_tokenizer

MAX_SCALE = 100.0
"""Of the cosines, as in CLIP."""
RECALLS = (1, 3)


def question_tokenizer() -> PreTrainedTokenizerFast:
    """The words of needle questions, each text closed by the token at which CLIP reads it off."""
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {TURN_END}", special_tokens=[(TURN_END, tokenizer.eos_token_id)]
    )
    tokenizer.chat_template = None
    return tokenizer


def new_dual_encoder(
    sizes: DualEncoderSizes, tower: CLIPVisionModel, tokenizer: PreTrainedTokenizerFast
) -> CLIPModel:
    """A random text tower and projections beside a trained image tower, whose CLS token is new to its job."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=sizes.projection_dim,
        **asdict(sizes.text),
    )
    config = CLIPConfig(text_config=text, vision_config=tower.config, projection_dim=sizes.projection_dim)
    network = CLIPModel(config)
    network.vision_model.load_state_dict(tower.state_dict())
    return network


class DualEncoderModule(TrainingModule):
    """Finds the scenes of each question among all scenes of the step by its likeness to their frames.

    The probability of a scene is the sum of those of its frames: one that shows the card is enough.

    Within a video the frame around a scene names it, and no card would need to be read. A question that names
    cards is therefore asked of the step's other videos too, where the same frame surrounds other cards.
    """

    def __init__(
        self, network: CLIPModel, num_steps: int, muon_lr: float, adamw_lr: float, flat_share: float
    ):
        super().__init__(num_steps, muon_lr, adamw_lr, flat_share)
        self.network = network

    def configure_optimizers(self):
        return muon_and_adamw([self.network], *self.learning_rates)

    def training_step(self, batch: SceneBatch, _) -> dict[str, Tensor]:
        cosines = self.cosines(batch)
        scale = self.network.logit_scale.float().exp().clamp(max=MAX_SCALE)
        loss = retrieval_loss(scale * cosines, batch)
        self.learn(loss, max_grad_norm=1.0)
        return {"loss": loss.detach(), "scale": scale.detach()} | recalls(cosines.detach(), batch)

    def cosines(self, batch: SceneBatch) -> Float[Tensor, "questions videos scenes frames"]:
        """Cosines of every question and every frame of the step."""
        text = self.network.get_text_features(batch.ids, attention_mask=batch.mask).pooler_output
        images = self.network.get_image_features(batch.pixels.flatten(0, 2)).pooler_output
        # Scenes differ by little beside what they share, and bf16 would round that away.
        with torch.autocast(text.device.type, enabled=False):
            text, images = normalize(text.float(), dim=-1), normalize(images.float(), dim=-1)
            return einsum(
                text,
                images.unflatten(0, batch.pixels.shape[:3]),
                "questions dim, videos scenes frames dim -> questions videos scenes frames",
            )

    def transfer_batch_to_device(self, batch: SceneBatch, device: torch.device, _) -> SceneBatch:
        return batch.to(device)


def retrieval_loss(
    logits: Float[Tensor, "questions videos scenes frames"], batch: SceneBatch
) -> Float[Tensor, ""]:
    """Cross entropy of the gold scenes (their mean, for several) among the candidates."""
    own = own_video(batch)
    candidates = (own | batch.names_card[:, None])[..., None]
    gold = own[..., None] & batch.gold[:, None]
    scenes = logits.logsumexp(dim=-1).masked_fill(~candidates, -torch.inf)
    log_probabilities = scenes.flatten(1).log_softmax(dim=-1).view_as(scenes)
    per_question = torch.where(gold, log_probabilities, 0).sum(dim=(1, 2)) / gold.sum(dim=(1, 2))
    return -per_question.mean()


def own_video(batch: SceneBatch) -> Bool[Tensor, "questions videos"]:
    return batch.video[:, None] == torch.arange(len(batch.pixels), device=batch.video.device)


def recalls(cosines: Float[Tensor, "questions videos scenes frames"], batch: SceneBatch) -> dict[str, Tensor]:
    """Share of the gold scenes among the best 1 and 3 of their video, by the mean over frames."""
    scores = cosines[own_video(batch)].mean(dim=-1)
    best_first = scores.argsort(dim=-1, descending=True)
    found = batch.gold.gather(1, best_first).float()
    shares = {f"recall@{k}": found[:, :k].sum(dim=1) / found.sum(dim=1) for k in RECALLS}
    by_kind = defaultdict(list)
    for number, kind in enumerate(batch.kinds):
        by_kind[kind].append(number)
    return {name: share.mean() for name, share in shares.items()} | {
        f"{name}/{kind}": share[numbers].mean()
        for name, share in shares.items()
        for kind, numbers in by_kind.items()
    }
