# CIFAR-10 (Table 9). Appendix D: 90 % for training, 10 % for validation. The training images are
# in random order, so the first 45000 and the last 5000 can be used.
_base_ = ['mmpretrain::_base_/datasets/cifar10_bs16.py', './cifar.py']

data_root = 'data/cifar10/'  # mmpretrain downloads CIFAR-10 to it
# The base's batch of 16 images is for 8 GPUs; this config is for one process.
train_dataloader = dict(batch_size=128, dataset=dict(data_root=data_root, indices=45000))
val_dataloader = dict(
    batch_size=128, dataset=dict(data_root=data_root, split='train', indices=-5000)
)
test_dataloader = dict(batch_size=128, dataset=dict(data_root=data_root))
