"""Procedurally drawn data sets in the layouts of Cityscapes, PASCAL VOC and ImageNet."""
