# A small FCN for small data and one process, for instance on a CPU: plain BN, a narrow head and no
# auxiliary head.
_base_ = './fcn.py'

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(type='ResNetMoD', depth=18, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=512, channels=128, norm_cfg=norm_cfg),
    auxiliary_head=None,
)
