"""Where a video is cut if its picture decides; the golden of the release is in test_goldens.py."""

import numpy as np
import pytest
import torch
from models import clip, save, small_video, tiny_backbone

from x2l.backbones.video_xl import VideoXL
from x2l.chunkers.scenes import Scenes, depth_scores, scene_lengths, split_points
from x2l.cli import main
from x2l.errors import X2LError
from x2l.preprocessing.pixels import preprocess
from x2l.storage import store


def looking(*directions: float) -> torch.Tensor:
    """Features of unit length at these angles, in degrees."""
    angles = torch.tensor(directions).deg2rad()
    return torch.stack((angles.cos(), angles.sin()), dim=-1)


def test_the_deepest_gap_splits():
    features = looking(0, 0, 60, 60)
    assert depth_scores(features).tolist() == pytest.approx([-0.5, 0.5, -0.5])
    assert split_points(features) == [1] and scene_lengths(features) == [1, 3]


@pytest.mark.parametrize("num_frames", [1, 2])
def test_so_few_frames_are_never_split(num_frames):
    assert split_points(looking(*range(0, 90 * num_frames, 90))) == []


def test_where_nothing_stands_out_there_are_no_scenes():
    assert scene_lengths(looking(*[30] * 12)) is None


def test_long_scenes_are_cut_into_fifteens():
    assert scene_lengths(looking(*[0] * 16, *[90] * 31)) == [15, 15, 15, 2]
    assert scene_lengths(looking(*[0] * 17, *[90] * 4)) == [15, 1, 5]


def test_the_longest_scene_is_a_field():
    assert scene_lengths(looking(*[0] * 16, *[90] * 4), 8) == [8, 7, 5]
    with pytest.raises(X2LError, match=r"chunk_frames.max_frames: expected 1 or more, got 0"):
        Scenes(max_frames=0)


def test_a_first_scene_of_no_frames_is_left_out():
    features = looking(0, 90, 90, 90, 90, 90)
    assert split_points(features) == [0] and scene_lengths(features) == [6]


@pytest.mark.parametrize("layer", [-1, -2])
def test_frames_are_told_apart_by_the_cls_of_the_selected_layer(layer):
    backbone = tiny_backbone(mm_vision_select_layer=layer)
    frames, tower = clip(5).frames, backbone.model.model.vision_tower.vision_tower.vision_model
    with torch.no_grad():
        features = backbone.frame_features(frames)
        hidden = tower(preprocess(frames, 32), output_hidden_states=True).hidden_states
        torch.testing.assert_close(features, hidden[layer][:, 0])
        in_batches = VideoXL(backbone.model, backbone.tokenizer, "tiny", frames_per_batch=2)
        torch.testing.assert_close(in_batches.frame_features(frames), features)
    assert features.shape == (5, 32) and not np.allclose(features[0], features[1])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("{name: fixed, frames: 4}", 4),
        ("fixed", 10),
        ("{name: scenes}", "scenes"),
        ("{name: scenes, max_frames: 9}", {"name": "scenes", "max_frames": 9, "still_frames": 10}),
    ],
)
def test_an_index_is_asked_by_the_recipe_that_made_it(given, kept, tmp_path, capsys):
    """However the chunker is spelt there."""
    video, folder = small_video(tmp_path), tmp_path / "model"
    save(tiny_backbone(), folder)
    (tmp_path / "recipe.yaml").write_text(
        f"backbone: {{name: video_xl, model: {folder}}}\nchunk_frames: {given}\nsampling: {{fps: 1.0}}\n"
    )
    recipe, index = ["--recipe", str(tmp_path / "recipe.yaml")], str(tmp_path / "index")
    assert main(["index", str(video), "-o", index, *recipe]) == 0
    assert store.load(index).spec.recipe["chunk_frames"] == kept
    assert main(["ask", index, "What is this?", "--max-new-tokens", "1", *recipe]) == 0
