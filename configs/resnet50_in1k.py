_base_ = '_base_/resnet_in1k.py'
model = dict(backbone=dict(depth=50))
