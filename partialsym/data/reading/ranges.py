"""Choose the values of 16-bit grey that become 0 and 1."""

import logging

from partialsym.data.reading import WIDE, Levels, Range
from partialsym.errors import InputError

log = logging.getLogger(__name__)


def resolve_range(name: str, levels: Levels, given: Range | None, deep: bool) -> Range | None:
    """The given range, else the smallest and largest value of the training images; None if no image has 16 bits.

    The range and suspicious values are logged.

    Args:
        name: name of the data set, for messages.
        levels: histograms of the training images.
        deep: whether any image of any split has 16 bits.
    Raises:
        ValueError: there is no range for 16-bit images, and no training image has 16 bits or all pixels are equal.
    """
    for doubt in levels.doubts(given):
        log.warning("%s: %s", name, doubt)
    ends = given or levels.range
    if not deep:
        if given not in (None, WIDE):
            log.warning("%s: the given range has no effect, because no image has 16 bits", name)
        return given
    if ends is None:
        raise InputError(f"{name}: some images have 16 bits, but no training image has: pass a range")
    if ends[0] == ends[1]:
        raise InputError(f"{name}: all pixels of 16-bit training images are {ends[0]}: pass a range")
    if all(levels.images):
        eight, sixteen = levels.images
        log.warning(
            "%s: %d training images have 8 bits and %d have 16: each kind has its own range", name, eight, sixteen
        )
    how = "the range of the training images" if given is None else "as given"
    log.info("%s: in 16-bit images %d becomes 0 and %d becomes 1, %s", name, *ends, how)
    return ends
