"""A backbone can tell its model when it saw a frame."""

import numpy as np
import pytest
import torch
from models import TOKENS_PER_FRAME, clip, tiny_backbone

from x2l.backbones.video_xl import VideoXL
from x2l.networks.time_code import time_code

SIZE = 16


def test_ten_seconds_later_is_the_same_rotation_everywhere():
    times_s = torch.arange(400.0)
    sine, cosine = time_code(times_s, SIZE).chunk(2, dim=-1)
    sine_10, cosine_10 = time_code(torch.tensor([10.0]), SIZE).chunk(2, dim=-1)
    rotated = torch.cat((sine * cosine_10 + cosine * sine_10, cosine * cosine_10 - sine * sine_10), dim=-1)
    torch.testing.assert_close(rotated, time_code(times_s + 10, SIZE), atol=1e-4, rtol=0)


def test_seconds_of_a_long_video_differ():
    code = time_code(torch.arange(3000.0), 64)
    likeness = code @ code.T / 32 - torch.eye(3000)
    assert likeness.max() < 0.995


@torch.no_grad()
def test_the_code_is_added_to_every_token_of_a_frame():
    plain, timed = tiny_backbone(), tiny_backbone(mm_time_amplitude=0.5)
    video = clip(5, fps=2.0)
    hidden = plain.model.config.hidden_size
    added = timed.embed(video.frames, video.times_s) - plain.embed(video.frames, video.times_s)
    expected = 0.5 * time_code(torch.from_numpy(video.times_s), hidden)
    torch.testing.assert_close(added, expected.repeat_interleave(TOKENS_PER_FRAME, dim=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames_per_batch", [1, 2, 5, 64])
@torch.no_grad()
def test_frames_keep_their_times_in_batches(frames_per_batch):
    whole = tiny_backbone(mm_time_amplitude=0.5)
    video = clip(5)
    batched = VideoXL(whole.model, whole.tokenizer, "tiny", frames_per_batch)
    seen = video.frames, np.asarray(video.times_s)
    torch.testing.assert_close(batched.embed(*seen), whole.embed(*seen), atol=1e-5, rtol=0)
