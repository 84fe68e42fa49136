"""`benchmarks.calibrate`: times that follow a calibration give it back, and others do not."""

import torch

from benchmarks import calibrate
from benchmarks.calibrate import EXPECTED, FACTORED, SPECTRAL, Found, fitted, times
from partialsym.ops import CLEARLY, Calibration

TRUE = Calibration(generate=6.0, convolve=1.2, mix=2.0, maps=300.0, transform=1.1, product=1.5, kernel=12.0, calls=3e7)


def found(true, every=3):
    """Measurements as they would be under a calibration."""
    some = calibrate.shapes()[::every]
    return [Found(s, {order: 0.1 * times(s, true)[order] for order in calibrate.orders(s)}) for s in some]


def test_the_shapes_hold_every_order():
    chosen = [calibrate.orders(shape) for shape in calibrate.shapes()]
    assert all(orders[0] == "dense" for orders in chosen)
    assert sum("factored" in orders for orders in chosen) > 15
    assert sum("spectral" in orders for orders in chosen) > 45


def test_the_weights_that_made_the_times_are_found_again():
    measured = found(TRUE)
    best = fitted(measured, EXPECTED, FACTORED + SPECTRAL)
    assert sum(one.off(best) for one in measured) < 0.1 * sum(one.off(EXPECTED) for one in measured)
    assert max(one.lost(TRUE) for one in measured) < 1 / CLEARLY - 1  # where the spectral order leads by less
    assert sum(one.lost(TRUE) for one in measured) < 0.1 * sum(one.lost(Calibration()) for one in measured)
    partly = fitted(measured, EXPECTED, SPECTRAL)
    assert partly.maps == EXPECTED.maps
    assert sum(one.off(partly) for one in measured) > sum(one.off(best) for one in measured)


def test_a_shape_is_measured_and_the_weights_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(calibrate, "SHAPES", [(2, 2, 2, 2, 2, 4, 5, 8), (1, 2, 2, 1, 2, 4, 3, -6)])
    monkeypatch.setattr(calibrate, "LONG", 0.0)
    monkeypatch.setattr(calibrate, "orders", lambda shape: ["dense", "factored", "spectral"])
    monkeypatch.setattr("sys.argv", ["calibrate", "float32"])
    calibrate.main()
    out = capsys.readouterr().out
    assert "float32 2/2, 0.0 min left  1 images, 2→2 channels, 1→2 elements, 4 features, 3×3 on 6×6, valid" in out
    assert "all fitted" in out
    assert out.count("    Calibration(") == 3
    assert calibrate.measure(calibrate.shapes()[0], torch.float32).quotients.keys() == {"factored", "spectral"}
