# VGG-BN for 32x32 images; five poolings reduce them to one pixel. The head has the widths
# 512-512-512-classes: only these give the parameters of Table 9. Dropout is placed as in VGG.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=16, norm_cfg=dict(type='BN')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='StackedLinearClsHead',
        num_classes=10,
        in_channels=512,
        mid_channels=[512, 512],
        dropout_rate=0.5,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
