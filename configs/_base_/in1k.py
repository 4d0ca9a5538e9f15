# ImageNet by appendix A.1, which refers to PyTorch's own recipe: 100 epochs, batch 256 as
# 4 GPUs x 64, SGD with lr 0.1 divided by 10 every 30 epochs, momentum 0.9, weight decay 1e-4.
_base_ = [
    # RandomResizedCrop 224 and flip; resize 256 and centre crop 224. Resizing uses Pillow, as in
    # torchvision: OpenCV does not antialias.
    'mmpretrain::_base_/datasets/imagenet_bs64_pil_resize.py',
    # No warm-up, no label smoothing.
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['mmcnnmod'], allow_failed_imports=False)

data_root = 'data/imagenet/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))

optim_wrapper = dict(type='OptimWrapper')
# 100 checkpoints per run could fill a disk.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
# A fixed seed makes a run repeatable. The paper averages three seeds: tools/experiments/run.py.
randomness = dict(seed=0)
