# CIFAR-10 in folders, {train,test}/<class>/*.jpg (or .png), read once into memory; crop, flip and
# normalisation happen on the device. The recipe is that of cifar.py. For the original files,
# replace the inner data sets by dict(type='CIFAR10', data_root=data_root, split='train',
# pipeline=[dict(type='PackInputs')]), and set to_rgb=False.
_base_ = './cifar.py'

data_root = 'data/cifar10/'
data_preprocessor = dict(
    type='InMemoryDataPreprocessor',
    padding=4,
    flip_prob=0.5,
    num_classes=10,
    # mmpretrain's values for CIFAR-10, in RGB; image files are read as BGR.
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=True,
)
images = dict(
    type='CustomDataset',
    data_root=data_root,
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
)
# No worker processes: loading a batch is one indexing operation.
loader = dict(num_workers=0, persistent_workers=False, collate_fn=dict(type='whole_batch'))
train_dataloader = dict(
    batch_size=128,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='InMemoryDataset',
        cache_dir='work_dirs/experiments/images',
        dataset=dict(data_prefix='train', **images),
    ),
    **loader,
)
# The files are sorted by class, so a contiguous part is no validation set. Accuracy is evaluated on
# the test images. So the last checkpoint counts: the best one would be selected by the test images.
val_dataloader = dict(
    batch_size=1000,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='InMemoryDataset',
        cache_dir='work_dirs/experiments/images',
        dataset=dict(data_prefix='test', **images),
    ),
    **loader,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best=None))
