"""The errors that report a user's mistake. Any other error is a bug of this package."""


class PartialsymError(Exception):
    """The user made a mistake that the message explains in one line. Every other kind of error is a bug."""


class InputError(PartialsymError, ValueError):
    """An argument, a file or a tensor is not valid. The message quotes it and says what would be right."""


class InputTypeError(PartialsymError, TypeError):
    """An argument has the wrong type. The message says what would be right."""


class ConfigError(InputError):
    """A configuration is not valid. The message names the key, quotes the value and says what would be right."""


class UnsupportedError(PartialsymError, NotImplementedError):
    """The package does not support this, by design. The message says what to do instead."""


class MissingExtraError(PartialsymError, ImportError):
    """An optional package is missing. The message says how to install it."""
