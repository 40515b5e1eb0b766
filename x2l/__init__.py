"""x2l: answer questions about long videos at a small fraction of the KV memory."""

from importlib import import_module

__version__ = "0.1.0"

# Public names are resolved on first use, so that `import x2l` (and `x2l --help`) stays fast.
_HOMES = {
    "Pipeline": "x2l.pipeline",
    "Question": "x2l.types",
    "Answer": "x2l.types",
    "Chunk": "x2l.types",
    "ChunkKV": "x2l.types",
    "KV": "x2l.types",
    "Plan": "x2l.types",
    "VideoIndex": "x2l.types",
    "Backbone": "x2l.interfaces",
    "Block": "x2l.engine.reading",
    "StockBackbone": "x2l.engine.stock",
    "Compressor": "x2l.interfaces",
    "ChunkCompressor": "x2l.engine.chunkwise",
    "ScorerCompressor": "x2l.engine.chunkwise",
    "Oracle": "x2l.interfaces",
    "Selector": "x2l.interfaces",
    "Chunker": "x2l.interfaces",
    "Data": "x2l.interfaces",
    "Item": "x2l.items",
    "register": "x2l.registry",
    "build": "x2l.registry",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'x2l' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
