"""Registration in the toolboxes that are installed; each is optional."""

from __future__ import annotations

import importlib
import logging

from ..errors import cause

# The first release of each toolbox with the registries and interfaces that mmcnnmod uses.
MINIMUM_VERSIONS = {
    'mmpretrain': '1.0.0',
    'mmseg': '1.0.0',
    'mmdet': '3.0.0',
    'mmpose': '1.0.0',
}

# Why a toolbox cannot be used; None if it can. Filled by `register_all`.
_problems: dict[str, Exception | None] = {}


def register_all() -> None:
    """Register the backbones in each toolbox's registry.

    A toolbox that is not installed is skipped silently. One that is installed but fails to import
    is skipped with a warning that names the cause, because the config may not need it.
    """
    for toolbox in MINIMUM_VERSIONS:
        _problems[toolbox] = _import(toolbox)
        if _problems[toolbox] is not None and not is_absent(toolbox):
            logging.getLogger(__name__).warning('mmcnnmod: skipped: %s', _describe(toolbox))


def is_absent(toolbox: str) -> bool:
    """Whether a toolbox is not installed."""
    problem = _problems[toolbox]
    return isinstance(problem, ModuleNotFoundError) and problem.name == toolbox


def require(toolbox: str) -> None:
    """Raise an error unless a toolbox can be used.

    Args:
        toolbox (str): A config's ``default_scope``: 'mmpretrain', 'mmseg' or 'mmdet', or the
            package of another toolbox that uses their backbones, such as 'mmrotate'.

    Raises:
        ImportError: If the toolbox is absent or broken; names the cause and the remedy.
    """
    if toolbox not in MINIMUM_VERSIONS:
        try:
            importlib.import_module(toolbox)
        except Exception as problem:
            known = ', '.join(MINIMUM_VERSIONS)
            raise ImportError(
                f'default_scope is {toolbox!r}, which cannot be imported ({cause(problem)}); '
                f'mmcnnmod supports {known} and installed toolboxes that use their backbones'
            ) from problem
        return
    if _problems[toolbox] is not None:
        raise ImportError(_describe(toolbox)) from _problems[toolbox]


def mod_versions() -> dict[type, tuple[str, type]]:
    """Map each dense backbone with an MoD version to the toolbox and the class of that version.

    The last base of an MoD class is the dense class; the others are mixins.
    """
    versions = {}
    for toolbox, problem in _problems.items():
        module = None if problem else importlib.import_module(f'{__name__}.{toolbox}')
        for cls in vars(module).values() if module else ():
            if isinstance(cls, type) and cls.__module__ == module.__name__:
                versions[cls.__bases__[-1]] = (toolbox, cls)
    return versions


def _import(toolbox: str) -> Exception | None:
    try:
        importlib.import_module(toolbox)
        importlib.import_module(f'{__name__}.{toolbox}')
    except Exception as problem:  # such as a failed version assert or a missing symbol
        return problem
    return None


def _describe(toolbox: str) -> str:
    if is_absent(toolbox):
        return f'{toolbox} is not installed; install it (see the version table in the README)'
    text = cause(_problems[toolbox])
    return f'{toolbox} cannot be imported ({text}); {_remedy(toolbox, text)}'


def _remedy(toolbox: str, text: str) -> str:
    if 'undefined symbol' in text or 'DLL load failed' in text:
        return 'mmcv was compiled for another torch: rebuild it without the package cache'
    if 'mmcv._ext' in text:
        return 'this mmcv has no operators (mmcv-lite?): install the full mmcv'
    if 'mmcv' in text.lower():
        return 'install a matching mmcv (see the version table in the README)'
    return (
        f'mmcnnmod needs {toolbox} >= {MINIMUM_VERSIONS[toolbox]} with the packages it depends on'
    )
