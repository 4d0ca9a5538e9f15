_base_ = '_base_/mobilenet-v2_in1k.py'
model = dict(backbone=dict(type='MobileNetV2MoD', arch='large'))
