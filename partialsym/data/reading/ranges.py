"""Which values of 16-bit grey become 0 and 1."""

import logging

from partialsym.data.reading import WIDE, Levels, Range
from partialsym.errors import InputError

log = logging.getLogger(__name__)


def taken(name: str, levels: Levels, given: Range | None, deep: bool) -> Range | None:
    """The range that was given, else the least and the largest value of the training images; None where none has 16
    bits. It is logged, with what is strange about the values.

    Args:
        name: of the data set, in messages.
        levels: of the training images.
        deep: whether any image, of whatever split, has 16 bits.
    Raises:
        ValueError: 16 bits without a range: no training image has them, or their pixels are all the same.
    """
    for doubt in levels.doubts(given):
        log.warning("%s: %s", name, doubt)
    ends = given or levels.range
    if not deep:
        if given not in (None, WIDE):
            log.warning("%s: no image has 16 bits, for which a range is given: it changes nothing", name)
        return given
    if ends is None:
        raise InputError(f"{name}: some images have 16 bits, but none for training has: give a range")
    if ends[0] == ends[1]:
        raise InputError(f"{name}: all pixels of 16-bit training images are {ends[0]}: give a range")
    if all(levels.images):
        eight, sixteen = levels.images
        log.warning("%s: %d training images have 8 bits and %d have 16: each kind has its range", name, eight, sixteen)
    how = "the range of the training images" if given is None else "as given"
    log.info("%s: of 16-bit images %d becomes 0 and %d becomes 1, %s", name, *ends, how)
    return ends
