# Faster R-CNN-R18-MoD on BCCD (blood cells in VOC's layout), small enough for a CPU. Not in the
# paper.
# data/bccd/BCCD/{Annotations,ImageSets/Main,JPEGImages}
_base_ = [
    '_base_/faster-rcnn_from-scratch.py',
    'mmdet::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='ResNetMoD', depth=18),
    # Half the base's widths, and fewer regions: a CPU pays for those, not for the backbone.
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    rpn_head=dict(
        in_channels=128,
        feat_channels=128,
        # At half size platelets are some 20 pixels wide; the base's smallest anchor has 32.
        anchor_generator=dict(scales=[4]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512, num_classes=3),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)

data_root = 'data/bccd/'
# One size, half of the images' 640x480: about a quarter of the time.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
bccd = dict(
    type='VOCDataset',
    data_root=data_root,
    data_prefix=dict(sub_data_root='BCCD/'),
    metainfo=dict(
        classes=('RBC', 'WBC', 'Platelets'), palette=[(220, 20, 60), (0, 0, 230), (119, 11, 32)]
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        ann_file='BCCD/ImageSets/Main/train.txt',
        # Two boxes of the data are single points (BloodImage_00338 and _00343). This ignores them
        # in training, where a side of 0 gives an infinite target. The metric keeps the one in val,
        # which no prediction can match: one missed RBC of 968.
        filter_cfg=dict(filter_empty_gt=True, bbox_min_size=1),
        pipeline=train_pipeline,
        **bccd,
    ),
)
eval_set = dict(test_mode=True, pipeline=test_pipeline, **bccd)
eval_loader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_dataloader = dict(
    dataset=dict(ann_file='BCCD/ImageSets/Main/val.txt', **eval_set), **eval_loader
)
test_dataloader = dict(
    dataset=dict(ann_file='BCCD/ImageSets/Main/test.txt', **eval_set), **eval_loader
)
# The area under the whole curve, as in VOC since 2010; '11points' is for VOC2007.
val_evaluator = dict(type='VOCMetric', metric='mAP', eval_mode='area')
test_evaluator = val_evaluator

# Not tuned: AdamW with a short warm-up, as is usual for a few hundred iterations from scratch.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0005, weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=8, by_epoch=True, milestones=[6], gamma=0.1),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
