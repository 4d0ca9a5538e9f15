_base_ = '_base_/convnext_in1k.py'
model = dict(backbone=dict(type='ConvNeXtMoD', arch='tiny'))
