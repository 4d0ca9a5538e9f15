_base_ = '_base_/faster-rcnn_fpn_voc0712.py'
model = dict(backbone=dict(type='ResNetMoD', depth=75))
