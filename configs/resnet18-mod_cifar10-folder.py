# The same on images in folders: data/cifar10/{train,test}/<class>/*.jpg (or .png).
_base_ = 'resnet18-mod_cifar10.py'

# Image files are read as BGR, which CIFAR10's own pickles are not.
data_preprocessor = dict(to_rgb=True)

train_dataset = dict(
    _delete_=True,  # CustomDataset knows no `split`
    type='CustomDataset',
    data_root=_base_.data_root,
    data_prefix='train',
    pipeline=[dict(type='LoadImageFromFile'), *_base_.train_pipeline],
)
test_dataset = dict(
    _delete_=True,
    type='CustomDataset',
    data_root=_base_.data_root,
    data_prefix='test',
    pipeline=[dict(type='LoadImageFromFile'), *_base_.test_pipeline],
)
train_dataloader = dict(dataset=train_dataset)
# Files come class by class, so no simple cut gives a validation set. Accuracy is watched on the
# test images; therefore the last checkpoint counts, not the best one, which they would choose.
val_dataloader = dict(dataset=test_dataset)
test_dataloader = dict(dataset=test_dataset)
default_hooks = dict(checkpoint=dict(save_best=None))
