"""Tries the configs that the toolboxes ship, with MoD backbones."""
