# ResNets on ImageNet (Tables 1, 7, 8, 10).
_base_ = ['mmpretrain::_base_/models/resnet50.py', './in1k.py']

# torchvision's ResNet leaves zero_init_residual off; mmpretrain's has it on.
model = dict(backbone=dict(zero_init_residual=False))
