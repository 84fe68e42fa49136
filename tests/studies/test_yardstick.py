"""The networks of `ask` must not be behind a plain CNN that trained for as long."""

import pytest

from partialsym.runs.schema import read_json
from studies.yardstick import IMAGES, RESULT, SEEDS


@pytest.mark.parametrize("kind", IMAGES)
def test_the_best_network_is_at_most_a_point_behind(kind):
    found = read_json(RESULT)["kinds"][kind]
    mean = {title: 100 * sum(one["accuracy"] for one in runs) / len(SEEDS) for title, runs in found.items()}
    ours = max(share for title, share in mean.items() if title.startswith("ask's"))
    plain = max(share for title, share in mean.items() if title.startswith("plain CNN"))
    assert ours >= plain - 1
