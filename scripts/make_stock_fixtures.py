"""Write tests/stock: what the processors of transformers' video models make of one small video.

    python scripts/make_stock_fixtures.py TORCHVISION

The stock video processors need torchvision, which x2l does not: TORCHVISION is a folder with an unpacked
wheel of it (pip download torchvision --no-deps, unzip). Its compiled operators are not needed.

Each folder holds a small byte-level tokenizer with the family's special tokens, the settings of its
processor, and inputs.safetensors: ids and pixels of `stock_models.video()` with one question, and with an
earlier turn. For Qwen also odd.safetensors, for five frames, and capped.safetensors, with
`cap_pixels_per_frame`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
TURN = (
    "<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}{% if part['type'] == 'video' %}"
)
CHATML = (
    "{% for message in messages %}"
    + TURN
    + "VIDEO{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
SMOL = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'video' %}<video>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
QWEN = SYSTEM + CHATML.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
CORPUS = """You are a helpful assistant. You are provided the following series of six frames from a video.
What is in frame 2? A red card. Frame1: Frame2: Frame from 00:01: <0.5 seconds> system user assistant
User: Assistant: Which card is it, and what comes before it in the video?\n\n"""


def main(torchvision: str) -> None:
    sys.path[:0] = [torchvision, str(ROOT / "tests")]
    without_operators = torch.library.Library("torchvision", "DEF")
    without_operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    without_operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

    for name, make in PROCESSORS.items():
        write(name, make())


def write(name: str, processor) -> None:
    from safetensors.torch import save_file
    from stock_models import ANSWERED, FOLDER, MAX_VIDEO_TOKENS, QUESTION

    folder = FOLDER / name
    processor.save_pretrained(folder)
    asked = [message("user", {"type": "video"}, QUESTION.text)]
    longer = [*asked, message("assistant", ANSWERED), message("user", QUESTION.text)]
    made = inputs(processor, asked)
    made |= {f"longer.{key}": value for key, value in inputs(processor, longer).items() if "pixel" not in key}
    save_file({key: value.contiguous() for key, value in made.items()}, folder / "inputs.safetensors")
    print(name, {key: tuple(value.shape) for key, value in made.items()})
    if name.startswith("qwen"):
        save_file(inputs(processor, asked, num_frames=5), folder / "odd.safetensors")
        processor.video_processor.max_video_tokens = MAX_VIDEO_TOKENS[name]
        save_file(inputs(processor, asked, cap_pixels_per_frame=True), folder / "capped.safetensors")


def message(role: str, *parts) -> dict:
    return {
        "role": role,
        "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts],
    }


def inputs(processor, messages: list[dict], num_frames: int = 6, **options) -> dict[str, torch.Tensor]:
    from stock_models import FPS, video
    from transformers.video_utils import VideoMetadata

    clip = video(num_frames)
    metadata = VideoMetadata(
        total_num_frames=len(clip.frames),
        fps=FPS,
        duration=clip.video.duration_s,
        frames_indices=list(range(len(clip.frames))),
    )
    text = processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    made = processor(
        text=[text],
        videos=[torch.from_numpy(clip.frames).permute(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
        **options,
    )
    return {key: torch.as_tensor(value) for key, value in made.items() if key != "video_metadata"}


def tokenizer(template: str, special: list[str], **named: str):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *special]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator([CORPUS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named or None,
        chat_template=template,
    )


def qwen2_5_vl():
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    sizes = {"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 64, "longest_edge": 800}}
    words = tokenizer(QWEN, QWEN_TOKENS)
    return Qwen2_5_VLProcessor(Qwen2VLImageProcessor(**sizes), words, Qwen2VLVideoProcessor(**sizes), QWEN)


def qwen3_vl():
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    sizes = {"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 64, "longest_edge": 6 * 800}}
    words = tokenizer(QWEN, QWEN_TOKENS)
    return Qwen3VLProcessor(Qwen2VLImageProcessor(**sizes), words, Qwen3VLVideoProcessor(**sizes), QWEN)


def llava_onevision():
    from transformers import (
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    size = {"height": 24, "width": 24}
    template = CHATML.replace("VIDEO", "<video>")
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size),
        tokenizer(template, ["<image>", "<video>"]),
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=36,
        vision_feature_select_strategy="full",
        chat_template=template,
    )


def internvl():
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": 16, "width": 16}
    template = CHATML.replace("VIDEO", "<video>\n")
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    return InternVLProcessor(
        GotOcr2ImageProcessor(size=size),
        tokenizer(template, list(named.values()), **named),
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template,
    )


def smolvlm():
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    sizes = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}
    special = ["<image>", "<video>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    return SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes),
        tokenizer(SMOL, special),
        SmolVLMVideoProcessor(**sizes),
        image_seq_len=4,
        chat_template=SMOL,
    )


def llava_next_video():
    """The family that docs/bring_your_own_model.md adds."""
    from transformers import LlavaNextImageProcessor, LlavaNextVideoProcessor, LlavaNextVideoVideoProcessor

    # The longer side is no whole number then, and the margins are not equal.
    sizes = {"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 24}}
    template = CHATML.replace("VIDEO", "<video>")
    return LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(**sizes),
        image_processor=LlavaNextImageProcessor(**sizes),
        tokenizer=tokenizer(template, ["<image>", "<video>"]),
        chat_template=template,
        patch_size=6,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


PROCESSORS = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "smolvlm": smolvlm,
    "llava_next_video": llava_next_video,
}

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
