"""equirl: any torch network made exactly equivariant to a finite group, by symmetrization.

The names are those of ``__init__.pyi``; each is imported on first use, so that ``equirl --help`` does not load torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
