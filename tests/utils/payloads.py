"""Checkpoints with code that creates a file when it runs."""

import pickle
from collections import OrderedDict

import torch

KINDS = ('direct', 'nested', 'in a history', 'protocol 4', 'older format', 'older header', 'pickle')


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), 'w')


class History:
    """Pickled as a HistoryBuffer with other content."""

    def __init__(self, content):
        self.content = content

    def __reduce__(self):
        from mmengine.logging import HistoryBuffer

        return HistoryBuffer, (), dict(max_length=1, _log_history=self.content, _count_history=[])


def write_payload(path, mark, kind='direct', content=None):
    """Write a checkpoint that creates ``mark`` when its code runs.

    Args:
        path (Path): The file.
        mark (Path): The file that the code creates.
        kind (str): One of KINDS. Defaults to 'direct'.
        content (dict, optional): Other content. Defaults to None: a state dict.
    """
    content = content or {'state_dict': OrderedDict(weight=torch.zeros(2))}
    payload = Payload(mark)
    if kind == 'direct':
        torch.save({**content, 'extra': payload}, path)
    elif kind == 'nested':
        meta = {**content.get('meta', {}), 'hooks': [{'deep': (1, payload)}]}
        torch.save({**content, 'meta': meta}, path)
    elif kind == 'in a history':
        hub = {'log_scalars': OrderedDict(loss=History(payload))}
        torch.save({**content, 'message_hub': hub}, path)
    elif kind == 'protocol 4':
        torch.save({**content, 'extra': payload}, path, pickle_protocol=4)
    elif kind == 'older format':
        torch.save({**content, 'extra': payload}, path, _use_new_zipfile_serialization=False)
    elif kind == 'older header':
        # The file begins with several small pickles, before that of the content.
        torch.save(content, path, _use_new_zipfile_serialization=False)
        path.write_bytes(pickle.dumps(payload, 2) + path.read_bytes())
    elif kind == 'pickle':
        path.write_bytes(pickle.dumps({'extra': payload, **content}))
    return path
