"""Operators that torchvision's library would declare; with this imported first, it loads without."""

from torch.library import Library

LIBRARY = Library("torchvision", "DEF")  # declared as long as it is kept
LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
