_base_ = '_base_/fcn_cityscapes.py'
