# The demo: FCN-R18-MoD on generated street scenes in the layout of Cityscapes (README.md). It
# trains in minutes on two CPU cores.
_base_ = ['_base_/fcn_r18-mod.py', '_base_/cityscapes.py']

# Half the size of the scenes, 512x256, and a crop of most of that.
scale = (256, 128)
crop_size = (128, 256)
model = dict(data_preprocessor=dict(size=crop_size))

data_root = 'data/street-scenes/'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

# Not tuned: AdamW with a short warm-up, as is usual for a few hundred iterations from scratch.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=1e-5, begin=20, end=240, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=240, val_interval=120)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=120, max_keep_ckpts=1))
