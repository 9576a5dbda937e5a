"""equirl: any torch network made exactly equivariant to a finite group, by symmetrization.

The names are those of ``__init__.pyi``; each is imported on first use, so that ``equirl --help`` does not load torch.
"""

from pathlib import Path

import lazy_loader

__version__ = "0.1.0"

# In the folder of a checkout Python finds this package before the installed one; its other folders are beside it.
_folder = Path(__file__).resolve().parent
if not (_folder / "agents").exists() and (_folder.parent / "agents" / "cli").is_dir():
    __path__.append(str(_folder.parent))

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
