# MobileNetV2 on ImageNet (Table 2). A.1 speaks of all experiments on ImageNet and excepts none, so
# its recipe serves here too, for the dense row and the MoD rows alike. The toolbox's own recipe for
# this network is another: 300 epochs, lr 0.045 times 0.98 each epoch, weight decay 4e-5.
_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', './in1k.py']
