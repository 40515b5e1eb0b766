"""The model "x2l" of lmms-eval: a plug-in that stock lmms-eval finds by itself.

--model_args -> recipe -> Pipeline;  requests -> one index per video -> answers in their order
"""

from typing import Any


def manifest() -> Any:
    """What lmms-eval is told when it lists its models: nothing heavy is imported."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("x2l", simple_class_path="x2l.lmms.model.X2L")
