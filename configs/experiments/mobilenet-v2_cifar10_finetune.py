# MobileNetV2-MoD fine-tuned on a part of CIFAR-10 at 96 pixels, for a CPU. The preprocessing is
# that of torchvision's ImageNet weights.
_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', './cifar10_finetune.py']

model = dict(backbone=dict(type='MobileNetV2MoD'), head=dict(num_classes=10, topk=(1,)))
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
