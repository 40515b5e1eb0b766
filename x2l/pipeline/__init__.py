"""The whole story: index a video once, then ask it as often as you like.

index:  Video -> Clip -> Chunk -> ChunkKV -> VideoIndex
ask:    Question + VideoIndex -> scores -> Plan -> cache -> Answer
"""

from x2l.pipeline.indexing import Read as Read
from x2l.pipeline.indexing import in_host_memory as in_host_memory
from x2l.pipeline.pipeline import Pipeline as Pipeline
