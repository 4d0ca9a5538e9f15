_base_ = ['_base_/resnet_cifar.py', '_base_/cifar10.py']
model = dict(backbone=dict(type='ResNetMoD_CIFAR', depth=18))
