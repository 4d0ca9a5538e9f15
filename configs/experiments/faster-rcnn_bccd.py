# Faster R-CNN-R18-MoD on BCCD, a schedule for a GPU. Scores are those on the test split.
_base_ = '../faster-rcnn_r18-mod_fpn_bccd.py'

train_dataloader = dict(batch_size=8, num_workers=8)
val_dataloader = dict(num_workers=4, dataset=dict(ann_file='BCCD/ImageSets/Main/test.txt'))
train_cfg = dict(max_epochs=60, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=60, by_epoch=True, milestones=[45, 55], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=2))
