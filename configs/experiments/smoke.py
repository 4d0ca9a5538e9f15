# Generated pictures of 32x16 pixels (see `make experiments`) and a network with a quarter of the
# width: seconds on a CPU.
_base_ = './resnet_cifar10.py'

data_root = 'data/experiments-smoke/'
width, classes = 16, 4
model = dict(
    backbone=dict(type='ResNetMoD_CIFAR', base_channels=width, stem_channels=width),
    head=dict(num_classes=classes, in_channels=8 * width),
)
data_preprocessor = dict(num_classes=classes)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 16)),
    dict(type='PackInputs'),
]
images = dict(data_root=data_root, pipeline=pipeline)
train_dataloader = dict(batch_size=32, dataset=dict(dataset=images))
val_dataloader = dict(dataset=dict(dataset=dict(data_prefix='val', **images)))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.05))
train_cfg = dict(max_epochs=4, val_interval=2)
param_scheduler = dict(milestones=[3])
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=5))
