_base_ = '_base_/mobilenet-v2_in1k.py'
