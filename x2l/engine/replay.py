"""Tokens that are written one by one by replaying one step: every tensor stays where it was.

A GPU may spend most of a token on launching its kernels. Here they are captured once, as a CUDA graph over a
cache of a fixed size, and replayed for every token, and for every later question whose cache is of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from x2l.cache import FilledCache
from x2l.engine.causal import CAUSAL_SDPA
from x2l.types import X2LError

CAN_REPLAY = ("sdpa", "eager")
"""Implementations of attention that take the mask of a cache with room behind its tokens."""
SIZE_STEP = 1024
"""Sizes of caches are multiples of it, so that caches of much the same length share a capture."""
MOST_HELD = 2
"""Captures that are kept, each with the memory of its cache."""
_WARM_UP = 3
Padded = Float[Tensor, "1 kv_heads size head_dim"]
Ids = Int[Tensor, "1 1"]


class FixedLayer(DynamicLayer):
    """A layer of a cache that shows all of its room, and writes to where `place` says."""

    def __init__(self, keys: Padded, values: Padded, place: Int[Tensor, " 1"]):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.place = keys, values, place

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Padded, Padded]:
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values


class FixedCache(FilledCache):
    """A cache of such layers. The mask of its step tells what is in it, and holds the bias of its tokens."""


class FixedStep:
    """The forward of one token behind a cache of a fixed size: captured on a GPU, run as it is elsewhere.

    forward: of the model. like: a cache whose shapes, but for the number of tokens, are those of all that are
    read. positions: shaped as those of every token.
    """

    def __init__(self, forward: Callable, like: DynamicCache, size: int, positions: Tensor):
        one = like.layers[0].keys
        self.forward, self.num_tokens = forward, 0
        with torch.inference_mode(False):
            self.place = torch.zeros(1, dtype=torch.long, device=one.device)
            self.ids, self.positions = torch.zeros_like(self.place)[None], torch.zeros_like(positions)
            self.mask = one.new_zeros(1, 1, 1, size)
            self.cache = FixedCache()
            self.cache.layers = [
                FixedLayer(_padded(layer.keys, size), _padded(layer.values, size), self.place)
                for layer in like.layers
            ]
        self.logits: Float[Tensor, "1 1 vocab"] | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def fill(self, cache: FilledCache) -> None:
        """Take over what a cache holds, and its bias."""
        self.num_tokens = num = cache.get_seq_length()
        self.mask.fill_(torch.finfo(self.mask.dtype).min)[..., :num] = 0
        if cache.bias is not None:
            self.mask[..., : len(cache.bias)] = cache.bias.to(self.mask)
        for fixed, layer in zip(self.cache.layers, cache.layers, strict=True):
            for room, states in ((fixed.keys, layer.keys), (fixed.values, layer.values)):
                room[..., :num, :] = states
                # Of an earlier answer: what is not finite would reach this one through any mask.
                room[..., num:, :] = 0

    def __call__(self, ids: Ids, positions: Int[Tensor, "*axes 1 1"]) -> Float[Tensor, "1 1 vocab"]:
        """Logits of the token; they are overwritten by those of the next."""
        self.ids.copy_(ids)
        self.positions.copy_(positions)
        self.place.fill_(self.num_tokens)
        self.mask[..., self.num_tokens] = 0
        self.num_tokens += 1
        if self.place.is_cuda:
            self._replay()
        else:
            self._forward()
        return self.logits

    def hand_back(self, cache: FilledCache) -> None:
        """Append to a cache, which was taken over, what was read since."""
        new = slice(cache.get_seq_length(), self.num_tokens)
        for i, fixed in enumerate(self.cache.layers):
            cache.update(fixed.keys[:, :, new], fixed.values[:, :, new], i)

    def _forward(self) -> None:
        self.logits = self.forward(
            input_ids=self.ids,
            position_ids=self.positions,
            attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
        ).logits

    def _replay(self) -> None:
        with torch.cuda.device(self.place.device):  # streams and graphs are those of the current one
            if self.graph is None:
                self.graph = self._captured(_aside(self.place.device))
            self.graph.replay()

    def _captured(self, aside: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        """A forward writes the same at the same place however often it runs."""
        graph, now = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._forward()
        now.wait_stream(aside)
        with torch.cuda.graph(graph, stream=aside):
            self._forward()
        return graph


@lru_cache
def _aside(device: torch.device) -> torch.cuda.Stream:
    """One for all captures: cuBLAS keeps a workspace for each stream that it has met."""
    return torch.cuda.Stream(device)


class Replays:
    """The steps of a model, by the size of their caches; of the newest only."""

    def __init__(self) -> None:
        self._steps: dict[tuple, FixedStep] = {}
        self._is_open = False

    @contextmanager
    def stepping(self, model: PreTrainedModel, cache: FilledCache, num_new: int) -> Iterator[None]:
        """While it is open, `model` reads one token behind `cache` by a step, and more as it always does.

        num_new: tokens that are read at most. `cache` stands still meanwhile, so that whoever calls the model
        counts positions; at the end it holds all that was read.

        Raises X2LError if one is open already.
        """
        if self._is_open:
            raise X2LError("decode: graph writes one answer at a time, expected the one before to have ended")
        size = -(-(cache.get_seq_length() + num_new) // SIZE_STEP) * SIZE_STEP
        step: FixedStep | None = None
        plain, own = model.forward, vars(model).get("forward")

        def settle() -> None:
            nonlocal step
            if step is not None:
                step.hand_back(cache)
            step = None

        @wraps(plain)
        def forward(*args: Any, **given: Any) -> Any:
            nonlocal step
            ids = given.get("input_ids")
            if given.get("past_key_values") is not cache or ids is None or ids.shape != (1, 1):
                settle()
                return plain(*args, **given)
            if step is None:
                step = self._of(model, plain, cache, size, given["position_ids"])
                step.fill(cache)
            logits = step(ids, given["position_ids"])
            return CausalLMOutputWithPast(logits=logits, past_key_values=cache)

        model.forward, self._is_open = forward, True
        try:
            yield
            settle()
        except BaseException:
            self._steps.clear()  # one of them may be half made
            raise
        finally:
            self._is_open = False
            del model.forward
            if own is not None:
                model.forward = own

    def _of(
        self, model: PreTrainedModel, forward: Callable, cache: FilledCache, size: int, positions: Tensor
    ) -> FixedStep:
        """A capture reads weights and buffers where they were: others, or elsewhere, need another."""
        held = chain(model.parameters(), model.buffers())
        key = (model.dtype, size, len(positions), *(tensor.data_ptr() for tensor in held))
        step = self._steps.pop(key, None)
        while len(self._steps) >= MOST_HELD:
            del self._steps[next(iter(self._steps))]
        self._steps[key] = step = step or FixedStep(forward, cache, size, positions)
        return step


def require_replayable(decoder: PreTrainedModel) -> None:
    """Raises X2LError for a decoder with something that a step cannot repeat."""
    attention = decoder.config._attn_implementation
    if attention not in (*CAN_REPLAY, CAUSAL_SDPA):
        expected = " or ".join(CAN_REPLAY)
        raise X2LError(f"decode: graph cannot replay the attention {attention}, expected {expected}")
    if reason := _reason_against(decoder):
        raise X2LError(f"decode: graph cannot replay {reason}, expected eager")


def _reason_against(decoder: PreTrainedModel) -> str | None:
    rotary = getattr(decoder.rotary_emb, "rope_type", "default")
    kinds = {*rotary.values()} if isinstance(rotary, dict) else {rotary}
    if changing := kinds & {"dynamic", "longrope"}:
        return f"the rotary embedding {min(changing)}, which changes with the length"
    layers = getattr(decoder.config, "layer_types", None)
    has_window = {*layers} - {"full_attention"} if layers else getattr(decoder.config, "sliding_window", None)
    return "layers that do not attend to everything" if has_window else None


def _padded(states: Float[Tensor, "1 kv_heads tokens head_dim"], size: int) -> Padded:
    return states.new_zeros(*states.shape[:2], size, states.shape[3])
