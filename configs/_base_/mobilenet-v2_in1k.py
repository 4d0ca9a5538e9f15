# MobileNetV2 on ImageNet (Table 2). A.1 gives one recipe for all experiments on ImageNet, so the
# dense and the MoD rows use it here, too. The toolbox's own recipe for this network differs:
# 300 epochs, lr 0.045 times 0.98 each epoch, weight decay 4e-5.
_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', './in1k.py']
