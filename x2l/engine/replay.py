"""Tokens that are written one by one with nothing but a replay: every tensor stays where it was.

A GPU spends most of a token on launching its kernels. Here they are captured once, as a CUDA graph over a
cache of a fixed size, and replayed for every token, and for every later question whose cache is of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from x2l.cache import FilledCache

CAN_REPLAY = ("sdpa", "eager")
"""Implementations of attention that take the mask of a cache with room behind its tokens."""
SIZE_STEP = 1024
"""Sizes of caches are multiples of it, so that caches of much the same length share a capture."""
MOST_HELD = 2
"""Captures that are kept, each with the memory of its cache."""
_WARM_UP = 3
Room = Float[Tensor, "1 kv_heads size head_dim"]
Ids = Int[Tensor, "1 1"]


class FixedLayer(DynamicLayer):
    """A layer of a cache that shows all of its room, and writes to where `place` says."""

    def __init__(self, keys: Room, values: Room, place: Int[Tensor, " 1"]):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.place = keys, values, place

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Room, Room]:
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values


class FixedStep:
    """The forward of one token behind a cache of a fixed size: captured on a GPU, run as it is elsewhere.

    forward: of the model. like: a cache whose shapes, but for the number of tokens, are those of all that are
    read. positions: shaped as those of every token.
    """

    def __init__(self, forward: Callable, like: DynamicCache, size: int, positions: Tensor):
        one = like.layers[0].keys
        self.forward, self.num_tokens = forward, 0
        self.place = torch.zeros(1, dtype=torch.long, device=one.device)
        self.ids, self.positions = torch.zeros_like(self.place)[None], positions.clone()
        self.unseen = torch.finfo(one.dtype).min
        self.mask = one.new_full((1, 1, 1, size), self.unseen)
        self.cache = FilledCache()
        self.cache.layers = [
            FixedLayer(_room(layer.keys, size), _room(layer.values, size), self.place)
            for layer in like.layers
        ]
        self.logits: Float[Tensor, "1 1 vocab"] | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def fill(self, cache: FilledCache) -> None:
        """Take over what a cache holds, and its bias."""
        self.num_tokens = cache.get_seq_length()
        self.mask.fill_(self.unseen)[..., : self.num_tokens] = 0
        if cache.bias is not None:
            self.mask[..., : len(cache.bias)] = cache.bias.to(self.mask)
        for fixed, layer in zip(self.cache.layers, cache.layers, strict=True):
            fixed.keys[..., : self.num_tokens, :] = layer.keys
            fixed.values[..., : self.num_tokens, :] = layer.values

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
        if self.graph is None:
            # A forward writes the same at the same place however often it runs.
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._forward()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._forward()
            self.graph = graph
        self.graph.replay()


class Replays:
    """The steps of a model, by the size of their caches; of the newest only."""

    def __init__(self) -> None:
        self._steps: dict[tuple[int, ...], FixedStep] = {}

    @contextmanager
    def stepping(self, model: PreTrainedModel, cache: FilledCache, num_new: int) -> Iterator[None]:
        """While it is open, `model` reads one token behind `cache` by a step, and more as it always does.

        num_new: tokens that are read at most. `cache` holds all of them at the end.
        """
        size = -(-(cache.get_seq_length() + num_new) // SIZE_STEP) * SIZE_STEP
        step: FixedStep | None = None
        plain, own = model.forward, vars(model).get("forward")

        @wraps(plain)
        def forward(*args: Any, **given: Any) -> Any:
            nonlocal step
            ids = given.get("input_ids")
            if given.get("past_key_values") is not cache or ids is None or ids.shape != (1, 1):
                _settle(step, cache)
                step = None
                return plain(*args, **given)
            if step is None:
                step = self._of(model, plain, cache, size, given["position_ids"])
                step.fill(cache)
            logits = step(ids, given["position_ids"])
            return CausalLMOutputWithPast(logits=logits, past_key_values=cache)

        model.forward = forward
        try:
            yield
            _settle(step, cache)
        finally:
            del model.forward
            if own is not None:
                model.forward = own

    def _of(
        self, model: PreTrainedModel, forward: Callable, cache: FilledCache, size: int, positions: Tensor
    ) -> FixedStep:
        """A capture reads weights where they were: others, or elsewhere, need another."""
        key = (size, len(positions), *(parameter.data_ptr() for parameter in model.parameters()))
        step = self._steps.pop(key, None) or FixedStep(forward, cache, size, positions)
        self._steps[key] = step
        for oldest in list(self._steps)[:-MOST_HELD]:
            del self._steps[oldest]
        return step


def _settle(step: FixedStep | None, cache: FilledCache) -> None:
    if step is not None:
        step.hand_back(cache)


def _room(states: Float[Tensor, "1 kv_heads tokens head_dim"], size: int) -> Room:
    return states.new_zeros(*states.shape[:2], size, states.shape[3])
