_base_ = '_base_/convnext_in1k.py'
model = dict(
    backbone=dict(type='ConvNeXtMoD', arch='base', drop_path_rate=0.5), head=dict(in_channels=1024)
)
