"""Old registered names, which still work for one release."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from mmengine.registry import Registry


def renamed_from(registry: Registry, old: str) -> Callable[[type], type]:
    """A class decorator that also registers the old name of a class; its use causes a warning.

    Args:
        registry (Registry): The registry of the class.
        old (str): The old name, which configs may still use.
    """

    def decorate(cls: type) -> type:
        def build(*args, **kwargs):
            warnings.warn(
                f'{old} is now called {cls.__name__}; the next release removes the old name',
                FutureWarning,
                stacklevel=2,
            )
            return cls(*args, **kwargs)

        build.__name__ = old
        registry.register_module(name=old, module=build)
        return cls

    return decorate
