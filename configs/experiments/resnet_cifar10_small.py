# A tenth of CIFAR-10 and networks with a quarter of the width, for a CPU.
_base_ = './resnet_cifar10_short.py'

width = 16
model = dict(
    backbone=dict(type='ResNetMoD_CIFAR', depth=18, base_channels=width, stem_channels=width),
    head=dict(in_channels=8 * width),
)
train_dataloader = dict(batch_size=64, dataset=dict(per_class=500))
val_dataloader = dict(dataset=dict(per_class=100))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.1))
train_cfg = dict(max_epochs=15, val_interval=3)
param_scheduler = dict(eta_max=0.1, total_steps=15)
default_hooks = dict(checkpoint=dict(interval=3))
