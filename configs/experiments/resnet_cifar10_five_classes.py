# ResNet-34-MoD on five of CIFAR-10's classes, 500 images of each: a small set for transfer.
_base_ = './resnet_cifar10_short.py'

classes = ['dog', 'frog', 'horse', 'ship', 'truck']
model = dict(backbone=dict(type='ResNetMoD_CIFAR', depth=34), head=dict(num_classes=5))
data_preprocessor = dict(num_classes=5)
train_dataloader = dict(batch_size=128, dataset=dict(classes=classes, per_class=500))
val_dataloader = dict(dataset=dict(classes=classes))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.1))
train_cfg = dict(max_epochs=10, val_interval=2)
param_scheduler = dict(eta_max=0.1, total_steps=10)
