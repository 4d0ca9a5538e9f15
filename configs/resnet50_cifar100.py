_base_ = ['_base_/resnet_cifar.py', '_base_/cifar100.py']
model = dict(backbone=dict(depth=50), head=dict(num_classes=100, in_channels=2048))
