_base_ = ['_base_/vgg_cifar.py', '_base_/cifar10.py']
model = dict(backbone=dict(type='VGGMoD', depth=16))
