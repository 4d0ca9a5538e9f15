_base_ = '_base_/fcn_cityscapes.py'
model = dict(backbone=dict(type='ResNetMoD', depth=86))
