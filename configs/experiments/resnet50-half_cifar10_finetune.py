# ResNet-50-MoD of half width fine-tuned on a part of CIFAR-10 at 96 pixels, for a CPU. The
# preprocessing is that of weights converted from Caffe: BGR, no division.
_base_ = ['mmpretrain::_base_/models/resnet50.py', './cifar10_finetune.py']

model = dict(
    backbone=dict(type='ResNetMoD', base_channels=32, stem_channels=64, style='caffe'),
    head=dict(num_classes=10, in_channels=1024, topk=(1,)),
)
data_preprocessor = dict(mean=[104.0, 117.0, 123.0], std=[1.0, 1.0, 1.0], to_rgb=False)
