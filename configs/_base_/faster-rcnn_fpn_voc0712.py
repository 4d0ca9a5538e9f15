# Faster R-CNN on Pascal VOC by appendix C. mmdetection's bases already have its settings: batch 2
# per GPU, AspectRatioBatchSampler, (1000, 600) with kept ratio, flip 0.5, mAP by '11points'.
_base_ = [
    './faster-rcnn_from-scratch.py',
    'mmdet::_base_/datasets/voc0712.py',
    'mmdet::_base_/default_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))

# Appendix C trains on the two 'train' sets and evaluates on VOC2007 'val'. The base, as is usual
# elsewhere, trains on 'trainval' and tests on VOC2007 'test'. A list replaces the base's list, so
# the entries are repeated here; they differ only in `ann_file`. The filter, which ignores boxes
# below 32 pixels in training, is the base's.
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            datasets=[
                dict(
                    type='VOCDataset',
                    data_root=_base_.data_root,
                    ann_file=f'VOC{year}/ImageSets/Main/train.txt',
                    data_prefix=dict(sub_data_root=f'VOC{year}/'),
                    filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
                    pipeline=_base_.train_pipeline,
                )
                for year in (2007, 2012)
            ]
        )
    )
)
val_dataloader = dict(dataset=dict(ann_file='VOC2007/ImageSets/Main/val.txt'))
test_dataloader = val_dataloader

# Appendix C gives no schedule. This is mmdetection's for VOC: 4 epochs of the data repeated
# 3 times, no warm-up.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=4, by_epoch=True, milestones=[3], gamma=0.1)
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
# A fixed seed makes a run repeatable. The paper averages three seeds: tools/experiments/run.py.
randomness = dict(seed=0)
