_base_ = ['_base_/vgg_cifar.py', '_base_/cifar100.py']
model = dict(backbone=dict(type='VGGMoD', depth=16), head=dict(num_classes=100))
