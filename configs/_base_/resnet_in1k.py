# ResNets on ImageNet (Tables 1, 7, 8, 10).
_base_ = ['mmpretrain::_base_/models/resnet50.py', './in1k.py']

# zero_init_residual is off in torchvision's ResNet and on in mmpretrain's.
model = dict(backbone=dict(zero_init_residual=False))
