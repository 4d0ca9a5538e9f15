_base_ = '_base_/resnet_cifar10.py'
model = dict(backbone=dict(type='ResNetMoD_CIFAR', depth=18))

data_root = 'data/cifar10/'  # mmpretrain downloads CIFAR-10 to it
# Appendix D: 90 % for training, 10 % for validation, and the best model on it goes to the test.
# The images of CIFAR-10 are in random order, so the first 45000 and the last 5000 will do.
train_dataloader = dict(dataset=dict(data_root=data_root, indices=45000))
val_dataloader = dict(dataset=dict(data_root=data_root, split='train', indices=-5000))
test_dataloader = dict(dataset=dict(data_root=data_root))
default_hooks = dict(checkpoint=dict(save_best='auto'))
