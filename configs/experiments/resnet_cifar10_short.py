# A short schedule, the same for all networks: 30 epochs, batch 512, one cycle.
_base_ = './resnet_cifar10.py'

train_dataloader = dict(batch_size=512)
# 0.4 corresponds to 0.1 at batch 128; Nesterov and weight decay 5e-4 are usual for short schedules.
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.4, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
train_cfg = dict(max_epochs=30, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=10))
param_scheduler = dict(
    _delete_=True,
    type='OneCycleLR',
    eta_max=0.4,
    total_steps=30,
    by_epoch=True,
    convert_to_iter_based=True,
)
