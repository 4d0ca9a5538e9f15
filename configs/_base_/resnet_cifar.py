# ResNets for 32x32 images: 3x3 stem, no max-pool.
_base_ = 'mmpretrain::_base_/models/resnet18_cifar.py'

# As on ImageNet: torchvision's initialisation.
model = dict(backbone=dict(zero_init_residual=False))
