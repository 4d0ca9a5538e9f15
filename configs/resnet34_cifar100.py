_base_ = ['_base_/resnet_cifar.py', '_base_/cifar100.py']
model = dict(backbone=dict(depth=34), head=dict(num_classes=100))
