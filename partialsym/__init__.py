"""Partial group equivariance: convolutional networks that learn which symmetries to keep, layer by layer.

Importing it loads no torch: a name is imported when it is first used, from where `__init__.pyi` says.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
