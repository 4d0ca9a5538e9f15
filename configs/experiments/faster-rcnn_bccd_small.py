# Faster R-CNN-R18-MoD on BCCD, a few epochs for a CPU. Scores are those on the test split.
_base_ = '../faster-rcnn_r18-mod_fpn_bccd.py'

val_dataloader = dict(dataset=dict(ann_file='BCCD/ImageSets/Main/test.txt'))
train_cfg = dict(max_epochs=4, val_interval=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=4, by_epoch=True, milestones=[3], gamma=0.1),
]
