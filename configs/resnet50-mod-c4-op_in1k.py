_base_ = '_base_/resnet_in1k.py'
model = dict(backbone=dict(type='ResNetMoD', depth=50, c=4, position='original'))
