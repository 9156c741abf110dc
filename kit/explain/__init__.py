"""What a network looks at, as maps over images, and how far these can be trusted; a model and images, no files.

from kit.explain import explain, shown
maps = explain(model, images)  # float32 [B, labels, h, w], signed
overlays = shown(maps)  # 0 to 1
"""

from kit.explain.cam import cam
from kit.explain.maps import METHODS, explain, shown
from kit.explain.occlusion import Patch, occlusion
from kit.explain.scores import scores_of

__all__ = ["METHODS", "Patch", "cam", "explain", "occlusion", "scores_of", "shown"]
