# 300 training and 200 test images of each class of CIFAR-10, enlarged to 96 pixels, and a short
# schedule, the same for every initialisation.
_base_ = '../_base_/cifar10_in_memory.py'

size = 96
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=size, interpolation='bicubic', backend='pillow'),
    dict(type='PackInputs'),
]
data_preprocessor = dict(padding=12)
train_dataloader = dict(batch_size=50, dataset=dict(per_class=300, dataset=dict(pipeline=pipeline)))
val_dataloader = dict(batch_size=100, dataset=dict(per_class=200, dataset=dict(pipeline=pipeline)))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05))
train_cfg = dict(max_epochs=4, val_interval=2)
param_scheduler = dict(
    _delete_=True,
    type='OneCycleLR',
    eta_max=1e-3,
    total_steps=4,
    by_epoch=True,
    convert_to_iter_based=True,
)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=1))
