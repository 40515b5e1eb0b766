"""The text side that all backbones share: a transformers decoder that reads a filled cache and writes.

Keys are stored before rotation and rotated once, when a memory or a cache is made of them.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    TextStreamer,
)

from x2l.cache import FilledCache, filled_cache, next_position
from x2l.decoding import DECODE
from x2l.engine.causal import CAUSAL_SDPA, attending, without_mask
from x2l.engine.hooks import outputs_of
from x2l.engine.observing import observed
from x2l.engine.replay import Replays, require_replayable
from x2l.engine.weighing import CAN_WEIGH, weighed
from x2l.engine.words import unknown_words, vocabulary
from x2l.interfaces import Backbone
from x2l.room import Room
from x2l.rotary import rotate, rotate_
from x2l.types import KV, Chunk, Geometry, Memory, Observed, Question, VideoFacts, X2LError


class LanguageModelBackbone(Backbone):
    """The text side of a backbone. A subclass adds the visual side, the prompt and the pre-fill.

    model: with a language head and generate(). identity: None for one that was not loaded from a folder.
    """

    provides = frozenset(
        {"attention", "unrotated_keys", "observe_queries", "observe_hidden", "observe_attention"}
    )
    num_axes: ClassVar[int] = 1
    """Axes of the rotary embedding: 1 in a line, 3 for time, height and width."""
    network_parts: ClassVar[Mapping[str, str]] = {
        "projector": "projector|connector|merger",
        "tower": "vision|visual",
    }
    """Parts of the network that can be trained by themselves: a pattern of their weights' names for each.

    The first that fits counts; what fits none is "language_model". These are usual names; a family whose
    network has others overrides them.
    """
    model_types: ClassVar[frozenset[str]] = frozenset()
    """`model_type` of the checkpoints that it is made for."""
    frames_per_step: ClassVar[int] = 1
    """Frames that share their visual tokens."""
    reads_words: ClassVar[bool] = False
    """Whether there is text between the frames."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        identity: str | None = None,
    ):
        self.model = model.eval()
        without_mask(self.decoder)
        self.tokenizer = tokenizer
        self._identity = identity
        self._replays = Replays()

    @property
    def decoder(self) -> PreTrainedModel:
        """The layers of the language model, without its head."""
        return self.model.get_decoder()

    @property
    def identity(self) -> str:
        """Name and fingerprint; without a folder, a fingerprint of the parameters as they are."""
        if self._identity is not None:
            return self._identity
        digest = hashlib.sha256()
        for name, parameter in self.model.named_parameters():
            digest.update(f"{name} {parameter.detach().double().sum().item()!r}".encode())
        return f"in memory@{digest.hexdigest()[:16]}"

    @property
    def num_positions(self) -> int | None:
        return getattr(self.decoder.config, "max_position_embeddings", None)

    @property
    def tokens_per_frame(self) -> int | None:
        """None where it depends on the size of the frames."""
        return None

    def tokens_per_step(self, height: int, width: int, num_frames: int) -> int | None:
        """Visual tokens of `frames_per_step` frames, as the checkpoint's settings have it; None: they do not.

        num_frames: of the whole video.
        """
        return self.tokens_per_frame

    @property
    def geometry(self) -> Geometry:
        config = self.decoder.config
        return Geometry(
            num_layers=config.num_hidden_layers,
            num_kv_heads=config.num_key_value_heads,
            head_dim=self.decoder.layers[0].self_attn.head_dim,
            tokens_per_frame=self.tokens_per_frame,
            dtype=str(self.model.dtype).removeprefix("torch."),
        )

    @property
    def device(self) -> torch.device:
        return self.model.device

    @abstractmethod
    def prompt_ids(self, video: VideoFacts | None = None) -> Int[Tensor, " tokens"]:
        """Token ids of everything in front of the first frame."""

    def one_pass(self, video: Chunk) -> FilledCache:
        """The cache that the network's own forward fills with the prompt and a whole video in one pass.

        What chunks that are not compressed must come to.
        """
        prompt = self.embed_ids(self.prompt_ids(video.video))
        positions = torch.cat((self._line(0, len(prompt)), video.positions), dim=1)
        cache = FilledCache()
        self.decoder(
            inputs_embeds=torch.cat((prompt, video.visual_tokens))[None],
            position_ids=self._position_ids(positions, 0),
            past_key_values=cache,
            use_cache=True,
            **self._besides(video, len(prompt)),
        )
        cache.position_shift = video.next_position - cache.get_seq_length()
        return self.finish(cache)

    def _besides(self, chunk: Chunk, num_before: int = 0) -> dict[str, Any]:
        """Arguments of the decoder for a chunk behind `num_before` tokens of text, besides embeddings."""
        return {}

    def extend(self, memory: RotatedMemory | None, kv: KV) -> RotatedMemory:
        new = self.placed(kv, memory.num_tokens if memory else 0)
        extended = new if memory is None else memory.extended(new)
        self.num_read = max(self.num_read if memory else 0, extended.num_tokens)
        return extended

    def placed(self, kv: KV, num_cached: int) -> RotatedMemory:
        """`kv` as it stands behind so many cached tokens: rotated, here to its own positions.

        Raises X2LError if it is rotated already.
        """
        if kv.rotated:
            raise X2LError("keys: expected before rotation, got some that are rotated already")
        return RotatedMemory(self.rotate(kv.keys, kv.positions), kv.values)

    def require_weighing(self) -> None:
        implementation = self.decoder.config._attn_implementation
        if implementation not in (*CAN_WEIGH, CAUSAL_SDPA):
            expected = f"{', '.join(CAN_WEIGH[:-1])} or {CAN_WEIGH[-1]}"
            raise X2LError(
                f"backbone.attention: {implementation} cannot weigh cached tokens, expected {expected} "
                "(or proportional.beta 0)"
            )

    def prefill_observed(
        self, chunk: Chunk, memory: RotatedMemory, what: Collection[str]
    ) -> tuple[KV, Observed]:
        # What a layer's projections read: its normalised input, the last layer's too.
        with outputs_of(layer.input_layernorm for layer in self.decoder.layers) as hidden:
            kv = self.prefill(chunk, memory)
        return kv, observed(self, kv, memory, hidden, what)

    def rotate(self, keys, positions):
        return rotate(keys, *self._turns(keys, positions))

    def rotate_(self, keys, positions):
        return rotate_(keys, *self._turns(keys, positions))

    def _turns(
        self,
        keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"],
        positions: Int[Tensor, "axes *#batch #layers #kv_heads tokens"],
    ) -> Iterator[Float[Tensor, "*#batch #layers #kv_heads tokens head_dim"]]:
        """Cosine and sine of positions."""
        rows = positions.flatten(1, -2).to(keys.device)
        turns = self.decoder.rotary_emb(keys, rows if self.num_axes > 1 else rows[0])
        return (part.unflatten(0, positions.shape[1:-1]) for part in turns)

    def encode_text(self, text: str) -> Int[Tensor, " tokens"]:
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        return ids[0].long().to(self.device)

    def encode_answer(self, text: str) -> Int[Tensor, " tokens"]:
        """The text and the end of the turn, which is where generate() stops."""
        end = torch.tensor([self.tokenizer.eos_token_id], device=self.device)
        return torch.cat((self.encode_text(text), end))

    def embed_text(self, text: str) -> Float[Tensor, "tokens hidden"]:
        return self.embed_ids(self.encode_text(text))

    def embed_ids(self, ids: Int[Tensor, "*batch tokens"]) -> Float[Tensor, "*batch tokens hidden"]:
        return self.model.get_input_embeddings()(ids.to(self.device))

    def logits(self, ids: Int[Tensor, " tokens"], cache: DynamicCache) -> Float[Tensor, "tokens vocab"]:
        with weighed(self.decoder, cache):
            return self.model(**self._inputs(ids, cache)).logits[0].float()

    def attention(
        self, ids: Int[Tensor, " tokens"], cache: DynamicCache
    ) -> Float[Tensor, "layers heads cached"]:
        cached = cache.get_seq_length()
        with weighed(self.decoder, cache):
            if len(ids) > 1:
                # Weights are formed for each token that is read with them; only the last one's are wanted.
                self.decoder(**self._inputs(ids[:-1], cache))
            # Only this implementation returns attention weights; the others never form them.
            with attending(self.decoder, "eager"):
                output = self.decoder(**self._inputs(ids[-1:], cache), output_attentions=True)
        return torch.stack([weights[0, :, -1, :cached] for weights in output.attentions])

    def generate(self, ids: Int[Tensor, " tokens"], cache: DynamicCache, **options: Any) -> str:
        tokens = self.generate_ids(ids, cache, **options)
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def generate_ids(
        self, ids: Int[Tensor, " tokens"], cache: DynamicCache, **options: Any
    ) -> Int[Tensor, " new_tokens"]:
        """Greedy unless `do_sample`; 64 new tokens by default, as in Video-X^2L's released example.

        No `repetition_penalty` unless it is given, whatever the checkpoint's generation_config.json says: it
        would not look at the prompt and the video, which have no token ids here.

        stop_strings: the answer ends with the token that completes one of them.
        decode: "graph" replays a captured step for every new token (x2l.engine.replay; without a GPU the same
        step is run), "eager" launches it; "auto" is eager.

        Raises X2LError for beam search, which would need a cache for every beam, for another `decode`, and
        for "graph" with a model whose step cannot be repeated.
        """
        if (decode := options.pop("decode", "auto")) not in DECODE:
            raise X2LError(f"decode: got {decode!r}, expected {', '.join(DECODE[:-1])} or {DECODE[-1]}")
        if decode == "graph":
            require_replayable(self.decoder)
        if options.get("num_beams", 1) > 1:
            raise X2LError(f"num_beams: expected 1, got {options['num_beams']}")
        if stop := options.pop("stop_strings", None):
            options["stopping_criteria"] = [_StopAt(self.tokenizer, tuple(stop), len(ids))]
        seen = cache.get_seq_length() + len(ids)
        options = {"max_new_tokens": 64, "do_sample": False, "repetition_penalty": 1.0, **options}
        with weighed(self.decoder, cache), ExitStack() as steps:
            if decode == "graph":
                num_read = len(ids) + options["max_new_tokens"]
                steps.enter_context(self._replays.stepping(self.model, cache, num_read))
            output = self.model.generate(
                **self._inputs(ids, cache),
                attention_mask=torch.ones(1, seen, dtype=torch.long, device=self.device),
                **options,
            )
        return output[0, len(ids) :]

    def streamer(self, on_text: Callable[[str], Any]) -> TextStreamer:
        streamer = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, stream_end=False: on_text(text)
        return streamer

    def unknown_words(self, text: str) -> list[str]:
        return unknown_words(self.tokenizer, text)

    @property
    def vocabulary(self) -> str:
        return vocabulary(self.tokenizer)

    def _inputs(self, ids: Int[Tensor, " tokens"], cache: DynamicCache) -> dict[str, Any]:
        """Arguments that make a transformers model read `ids` behind `cache`."""
        return {
            "input_ids": ids[None].to(self.device),
            "past_key_values": cache,
            "position_ids": self._position_ids(
                self._line(next_position(cache), len(ids)), cache.get_seq_length()
            ),
            "use_cache": True,
        }

    def _line(self, start: int, count: int) -> Int[Tensor, "axes tokens"]:
        """Positions of text: the same along every axis."""
        return torch.arange(start, start + count, device=self.device).expand(self.num_axes, -1)

    def _position_ids(
        self, positions: Int[Tensor, "axes tokens"], num_cached: int, batch: int = 1
    ) -> Int[Tensor, "*axes batch tokens"]:
        """Positions as transformers takes them: several axes have the index in the sequence first."""
        if self.num_axes == 1:
            return positions.expand(batch, -1)
        rows = torch.arange(num_cached, num_cached + positions.shape[-1], device=self.device)
        return torch.cat((rows[None], positions))[:, None].expand(-1, batch, -1)


@dataclass(eq=False)
class MemoryRoom:
    """Where keys and values of a memory lie, and of those that it was extended from.

    num_tokens: of the newest. spare: most that is read behind one.
    """

    keys: Room = field(default_factory=Room)
    values: Room = field(default_factory=Room)
    num_tokens: int = 0
    spare: int = 0


@dataclass(frozen=True)
class RotatedMemory(Memory):
    """Keys after rotation and values, [*batch, layers, kv_heads, tokens, head_dim].

    room: where they lie. A memory is never changed; the newest in its room is extended there, without a copy.
    """

    keys: Float[Tensor, "*batch layers kv_heads tokens head_dim"]
    values: Float[Tensor, "*batch layers kv_heads tokens head_dim"]
    room: MemoryRoom = field(default_factory=MemoryRoom, kw_only=True, repr=False, compare=False)

    @property
    def num_tokens(self) -> int:
        return self.keys.shape[-2]

    @property
    def is_newest(self) -> bool:
        """Whether nobody uses what lies behind it in its room."""
        return self.room.num_tokens == self.num_tokens and self.room.keys.holds(self.keys)

    def extended(self, new: RotatedMemory) -> RotatedMemory:
        """With another behind it; one without a batch (the prefix) is shared by that of the other."""
        if torch.is_grad_enabled():
            return RotatedMemory.joined((self, new))
        room = self.room if self.is_newest else MemoryRoom(spare=self.room.spare)
        keys = room.keys.append(_match_batch(self.keys, new.keys), new.keys, room.spare)
        values = room.values.append(_match_batch(self.values, new.values), new.values, room.spare)
        room.num_tokens = keys.shape[-2]
        return RotatedMemory(keys, values, room=room)

    @classmethod
    def joined(cls, pieces: Sequence[RotatedMemory]) -> RotatedMemory:
        """All pieces in order; one without a batch (the prefix) is shared by that of the last."""
        keys = [_match_batch(piece.keys, pieces[-1].keys) for piece in pieces]
        values = [_match_batch(piece.values, pieces[-1].values) for piece in pieces]
        return cls(torch.cat(keys, dim=-2), torch.cat(values, dim=-2))


def memory_cache(memory: RotatedMemory | None, batch: int, num_read: int) -> DynamicCache:
    """A cache that holds a memory for every video of a batch, without copying it.

    num_read: how many tokens are read behind it, which lie in the memory's room meanwhile if it has as much.
    """
    if memory is None:
        return DynamicCache()
    room = memory.room
    room.spare = max(room.spare, num_read)
    is_shared = math.prod(memory.keys.shape[:-4]) < batch
    rooms = (room.keys.buffer, room.values.buffer) if memory.is_newest and not is_shared else ()
    states = [tensor.expand(batch, *tensor.shape[-4:]) for tensor in (memory.keys, memory.values, *rooms)]
    return filled_cache(*states[:2], states[2:])


def with_options(question: Question) -> str:
    """The user's turn: the question and its options, as its prompt puts them."""
    return question.prompt.of(question.text, question.options)


def _match_batch(memory: Tensor, new: Tensor) -> Tensor:
    """One memory may be shared by a batch (the prefix is)."""
    return memory.expand(*new.shape[: new.ndim - 4], *memory.shape[-4:])


@dataclass
class _StopAt(StoppingCriteria):
    """Stops behind a text; transformers' own criterion needs a tokenizer that can spell any."""

    tokenizer: PreTrainedTokenizerBase
    texts: tuple[str, ...]
    prompt_tokens: int

    def __call__(self, input_ids: Tensor, scores: Tensor | None, **kwargs: Any) -> Tensor:
        said = self.tokenizer.decode(input_ids[0, self.prompt_tokens :], skip_special_tokens=True)
        return torch.tensor([any(text in said for text in self.texts)], device=input_ids.device)
