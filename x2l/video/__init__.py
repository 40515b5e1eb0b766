"""A video file as lazily decoded clips of RGB frames, in bounded memory.

file -> scan (timestamps, health) -> Sampling (which frames) -> reader (their pixels) -> Clip ...
"""

from x2l.video.sampling import Sampling as Sampling
from x2l.video.video import Video as Video
from x2l.video.video import open_video as open_video
