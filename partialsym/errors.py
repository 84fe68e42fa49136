"""What a user did wrong, told from what is wrong with us."""


class PartialsymError(Exception):
    """Something that the user can put right; the message is a line that says what. Every other error is a bug."""


class InputError(PartialsymError, ValueError):
    """An argument, a file or a tensor that cannot be used; the message quotes it and says what would be right."""


class InputTypeError(PartialsymError, TypeError):
    """An argument of another type than can be used; the message says what would be right."""


class ConfigError(InputError):
    """A configuration that cannot be run; the message names the key, quotes the value and says what would be right."""


class UnsupportedError(PartialsymError, NotImplementedError):
    """Something that there is not, by design; the message says what to do instead."""


class MissingExtraError(PartialsymError, ImportError):
    """An optional package is missing; the message says how to install it."""
