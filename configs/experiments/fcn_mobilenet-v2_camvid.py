# MobileNetV2-MoD with a light FCN head on CamVid, with output stride 32, for a CPU. Scores are
# those on the test split: train and val share a sequence.
_base_ = '../fcn_r18-mod_camvid.py'

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    # The preprocessing of torchvision's ImageNet weights.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True,
        type='MobileNetV2MoD',
        strides=(1, 2, 2, 2, 1, 2, 1),
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(in_channels=320, in_index=3, channels=64, num_convs=1),
)
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_prefix=dict(img_path='images/test', seg_map_path='labels/test')),
)
train_cfg = dict(max_iters=240, val_interval=120)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=1e-5, begin=30, end=240, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=120, max_keep_ckpts=1))
