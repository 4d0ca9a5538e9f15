# mmdetection's Faster R-CNN with a backbone that starts at random. The base loads torchvision's
# weights, freezes the first stage and keeps BN in eval mode. There are no MoD weights, so all
# layers must be trained, BN included. The dense rows are trained the same way, to be comparable.
# `_delete_` removes `init_cfg` instead of setting it to None, so that --cfg-options can add one
# (README.md).
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
custom_imports = dict(imports=['mmcnnmod'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
)
