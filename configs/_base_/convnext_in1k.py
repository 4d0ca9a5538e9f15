# ConvNeXt on ImageNet: the paper mentions it (Section 3.4) without numbers or a recipe. This is
# mmpretrain's recipe: 300 epochs, batch 4096 as 32 x 128, AdamW, Mixup and CutMix, EMA. It is meant
# for many GPUs; on fewer, --auto-scale-lr scales the learning rate to the batch size.
_base_ = 'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'
custom_imports = dict(imports=['mmcnnmod'], allow_failed_imports=False)

data_root = 'data/imagenet/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))

optim_wrapper = dict(type='OptimWrapper')
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
