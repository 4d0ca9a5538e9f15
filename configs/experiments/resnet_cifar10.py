# The full schedule: 200 epochs, batch 128, see _base_/cifar.py. The plans set network and depth.
_base_ = ['../_base_/resnet_cifar.py', '../_base_/cifar10_in_memory.py']

# Evaluations are only for the learning curve, so every fifth epoch is enough.
train_cfg = dict(val_interval=5)
default_hooks = dict(checkpoint=dict(interval=5), logger=dict(interval=20))
