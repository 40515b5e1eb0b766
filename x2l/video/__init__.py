"""A video file, or pictures, as lazily decoded clips of RGB frames, in bounded memory.

file -> scan (timestamps, health) -> Sampling (which frames) -> reader (their pixels) -> Clip ...

Damage is what FFmpeg notices: most flipped bits in H.264 and MPEG-4, next to none in HEVC, VP8 and VP9.
"""

from x2l.video.files import videos_in as videos_in
from x2l.video.follow import follow as follow
from x2l.video.follow import is_live as is_live
from x2l.video.follow import name_of as name_of
from x2l.video.footage import Footage as Footage
from x2l.video.footage import equal_parts as equal_parts
from x2l.video.inserted import Inserted as Inserted
from x2l.video.sampling import Sampling as Sampling
from x2l.video.stills import Stills as Stills
from x2l.video.stills import is_stills as is_stills
from x2l.video.stills import open_stills as open_stills
from x2l.video.stills import stills_of as stills_of
from x2l.video.video import Video as Video
from x2l.video.video import open_video as open_video
