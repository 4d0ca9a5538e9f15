# ResNets for 32x32 images (Table 9). Appendix D names neither optimiser nor epochs, so this is
# mmpretrain's CIFAR recipe: SGD with lr 0.1 divided by 10 after 100 and 150 of 200 epochs,
# momentum 0.9, weight decay 1e-4, batch 128, random crop with padding 4 and flip.
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    'mmpretrain::_base_/datasets/cifar10_bs16.py',
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmcnnmod'], allow_failed_imports=False)

# As on ImageNet: torchvision's initialisation.
model = dict(backbone=dict(zero_init_residual=False))

# The base's 16 images are for 8 GPUs; this is one process.
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)

optim_wrapper = dict(type='OptimWrapper')
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
# The paper averages five seeds: randomness.seed=1 and so on for the others.
randomness = dict(seed=0)
