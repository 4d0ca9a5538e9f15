# The same with images in folders: data/cifar10/{train,test}/<class>/*.jpg (or .png).
_base_ = 'resnet18-mod_cifar10.py'

# Image files are read as BGR; CIFAR10's own pickles are RGB.
data_preprocessor = dict(to_rgb=True)

train_dataset = dict(
    _delete_=True,  # CustomDataset has no `split`
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
# The files are sorted by class, so a contiguous part is no validation set. Accuracy is evaluated on
# the test images. So the last checkpoint counts: the best one would be selected by the test images.
val_dataloader = dict(dataset=test_dataset)
test_dataloader = dict(dataset=test_dataset)
default_hooks = dict(checkpoint=dict(save_best=None))
