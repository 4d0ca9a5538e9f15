"""How MoD blocks are computed: by their definition, ``MoDBlock.define``, or faster.

``switch`` decides, ``mod_stage`` knows which maps may be written into; ``eager_block``,
``training_block`` (with ``saved_maps``), ``compiled_block``, ``native_block`` and ``triton_block``
are the faster ways.
"""
