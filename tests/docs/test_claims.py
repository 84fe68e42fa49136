"""The sentences of docs/reproduction.md that hold numbers are those that the results make."""

import math
from collections import Counter
from statistics import mean

from claims import WORDS, accuracies, drawn_accuracies, kept

from partialsym.measure import subset_spread
from partialsym.reproduction.table import load_table, mean_std

LAYERS = ("first", "second", "third", "fourth", "fifth")


def test_rotmnist(said, rows):
    plain, full, partial = (rows["table2"][f"{row}/rotMNIST"] for row in ("T2/plain", "SE2-4/full", "SE2-4/partial"))
    t, f, p = (accuracies(row) for row in (plain, full, partial))
    assert f"T(2) is at {mean_std(t)} %, SE(2)-4 full at {mean_std(f)}, partial at {mean_std(p)};" in said
    ahead = [ours - theirs for ours, theirs in zip(p, f, strict=True)]
    assert f"In each seed it is ahead, by {min(ahead):.2f} to {max(ahead):.2f} points" in said
    error = math.sqrt(mean(p) * (100 - mean(p)) / full[0]["images"]["test"])
    assert f"where the standard error of either, from 50,000 test images alone, is {error:.2f}" in said
    drawn = [mean_std(drawn_accuracies(row)) for row in (partial, full)]
    assert f"under drawn elements it is behind, {drawn[0]} to {drawn[1]}" in said
    assert f"where T(2), which draws nothing, is at {mean(drawn_accuracies(plain)):.2f})" in said
    printed = [
        float(load_table("table2").rows[f"{row}/rotMNIST"]) for row in ("T2/plain", "SE2-4/full", "SE2-4/partial")
    ]
    below = [f"{there - mean(ours):.2f}" for there, ours in zip(printed, (t, f, p), strict=True)]
    assert f"Ours are {below[0]}, {below[1]} and {below[2]} points below" in said
    assert f"and {mean(f) - mean(t):.1f} and {mean(p) - mean(t):.1f} above T(2) where the paper's are 1.9" in said
    assert {f"{there - printed[0]:.1f}" for there in printed[1:]} == {"1.9"}
    assert f"Parameters: {partial[0]['parameters']:,} where the authors have 467,786" in said
    assert f"with T(2) {plain[0]['parameters']:,} where" in said


def test_layers_on_rotmnist(said, rows):
    layers = kept(rows["table2"]["SE2-4/partial/rotMNIST"], "theta_deg")
    shares = " ".join(f"{mean(values) / 180:.3f}".lstrip("0") for values in layers)
    assert f"θ is {shares} after lifting" in said
    least = Counter(seed.index(min(seed)) for seed in zip(*layers, strict=True))
    assert least == {3: 2, 2: 1}
    assert "The smallest is the fourth of the five in two seeds and the third in one" in said


def test_eight_elements(said, rows):
    few, se2, e2 = (rows["table2"][f"{row}/partial/rotMNIST"] for row in ("SE2-4", "SE2-8", "E2-8"))
    assert len(se2) == len(e2) == 1
    a, b, c = (f"{mean(accuracies(results)):.2f}" for results in (few, se2, e2))
    drawn = [f"{mean(drawn_accuracies(results)):.2f}" for results in (se2, e2)]
    printed = [str(load_table("table2").rows[f"{row}/partial/rotMNIST"]) for row in ("SE2-8", "SE2-4", "E2-8")]
    assert f"SE(2)-8 partial is at {b} % ({drawn[0]} under drawn elements), where SE(2)-4 partial is at {a}" in said
    assert f"the paper has {printed[0]} and {printed[1]}. E(2)-8" in said
    assert f"is at {c} % ({drawn[1]} under drawn elements): below SE(2)-4" in said
    assert f"above the {printed[2]} that is printed for it" in said
    assert float(printed[2]) < float(c) < float(a)
    p = " ".join(f"{mean(values):.2f}".lstrip("0") for values in kept(e2, "P(m)"))
    theta = " ".join(f"{mean(values) / 180:.2f}".lstrip("0") for values in kept(e2, "theta_deg"))
    ends = [mean(values) for values in kept(e2, "P(m)")]
    assert (sum(end <= 0.5 for end in ends), sum(0.5 < end < 0.6 for end in ends)) == (1, 3)
    assert f"from .88, P(m) falls to {p} after lifting, so that one layer drops it at evaluation" in said
    assert f"three are undecided; θ is {theta}. In both" in said
    third = [kept(se2, "theta_deg"), kept(e2, "theta_deg"), kept(e2, "P(m)")]
    assert {min(range(5), key=lambda i: mean(layers[i])) for layers in third} == {2}
    assert "In both the third layer keeps least" in said
    assert set(rows["table2"]).isdisjoint({"SE2-8/full/rotMNIST", "E2-8/full/rotMNIST"})


def test_mnist6(said, rows):
    wrong = {
        row: [round((1 - r["accuracy"]["test"]) * r["images"]["test"]) for r in rows["mnist6"][row]]
        for row in rows["mnist6"]
    }
    (images,) = {r["images"]["test"] for results in rows["mnist6"].values() for r in results}
    most = max(count for row, counts in wrong.items() if "/partial/" in row for count in counts)
    assert f"a partial one is right on all images, or all but at most {WORDS[most]} of {images:,}, after" in said
    assert {count for row, counts in wrong.items() if "/full/" in row for count in counts} == {images // 2}
    epochs = sorted({r["epochs"] for results in rows["mnist6"].values() for r in results})
    e2 = mean_std(accuracies(rows["mnist6"]["E2-8/partial/MNIST6-M"]))
    assert f"E(2) is at {e2} % on MNIST6-M, where the paper has 100" in said
    assert f"after {epochs[0]} to {epochs[-1]} epochs" in said


def test_where_layers_keep_least_on_mnist6(said, rows):
    least, low = Counter(), {}
    for row in (row for row in rows["mnist6"] if "/partial/" in row):
        results = rows["mnist6"][row]
        for key in subset_spread(results)[1].keys() & {"theta_deg", "P(m)"}:
            layers = kept(results, key)
            means = [mean(values) for values in layers]
            what = f"±{min(means):.0f}°" if key == "theta_deg" else f"P {min(means):.2f}".replace("0.", ".")
            low[row, key] = f"{LAYERS[means.index(min(means))]} ({what})"
            least.update(seed.index(min(seed)) for seed in zip(*layers, strict=True))
    se2, mirror = low["SE2-8/partial/MNIST6-180", "theta_deg"], low["Mirror-2/partial/MNIST6-M", "P(m)"]
    of_e2 = [
        f"E(2) on {row[13:]}: {low[row, 'theta_deg']} for turns, {low[row, 'P(m)']} for mirrorings"
        for row in ("E2-8/partial/MNIST6-180", "E2-8/partial/MNIST6-M")
    ]
    assert f"SE(2) on MNIST6-180: {se2}; mirrorings alone on MNIST6-M: {mirror}; {'; '.join(of_e2)}." in said
    counts = [f"the {name} in {least[i]}" for i, name in enumerate(LAYERS)]
    assert f"of a single seed it is {', '.join(counts[:-1])} and {counts[-1]} of {least.total()}." in said
    middle = sum(least[i] for i in (1, 2, 3))
    assert f"one of the middle three in {middle}, where chance would give {0.6 * least.total():.1f}" in said


def test_data_efficiency(said, rows):
    def at(method, images):
        return accuracies(rows["data_efficiency"][f"{method}/rotMNIST/{images}"])

    for images in (125, 250, 500, 1000):
        assert {len(at(m, images)) for m in ("T2/plain", "SE2-4/full", "SE2-4/partial", "T2/Augerino-4")} == {3}
        full = at("SE2-4/full", images)
        assert abs(mean(at("SE2-4/partial", images)) - mean(full)) < max(full) - min(full)
    ahead = [mean(at("SE2-4/full", images)) - mean(at("T2/plain", images)) for images in (125, 1000)]
    assert f"ahead of the CNN by {ahead[0]:.1f} points at 125 images and by {ahead[1]:.1f} at 1,000" in said
    errors = [gain / (100 - mean(at("T2/plain", images))) for gain, images in zip(ahead, (125, 1000), strict=True)]
    assert f"Of the CNN's errors that is {100 * errors[0]:.0f} and {100 * errors[1]:.0f} %" in said
    few, many = (at("T2/Augerino-1", images) for images in (125, 1000))
    assert f"the CNN is at {mean_std(few, 1)} % with 125 images and {mean_std(many, 1)} with 1,000" in said
    turned = [
        seed["subsets"][0]["theta_deg"]
        for n in (125, 1000)
        for seed in rows["data_efficiency"][f"T2/Augerino-1/rotMNIST/{n}"]
    ]
    assert f"by at most ±{min(turned):.0f}° to ±{max(turned):.0f}° in the end" in said
    behind = [mean(at("T2/Augerino-4", n)) - mean(one) for n, one in ((125, few), (1000, many))]
    assert f"{behind[0]:.1f} and {behind[1]:.1f} points behind four copies" in said
    both = [at("SE2-4/full+Augerino-1", images) for images in (125, 1000)]
    gain = [mean(more) - mean(at("SE2-4/full", n)[: len(more)]) for n, more in ((125, both[0]), (1000, both[1]))]
    of = [f"{mean(more):.1f} ({WORDS[len(more)]}{' seeds' * (i == 0)})" for i, more in enumerate(both)]
    assert f"to {of[0]} and {of[1]}, by {gain[0]:.1f} and {gain[1]:.1f} points over the same seeds" in said
    left = mean(at("SE2-4/full", 1000)) - mean(many), mean(few) - mean(at("SE2-4/full", 125))
    assert f"behind the G-CNN at 1,000, by {left[0]:.1f} points, and ahead of it at 125, by {left[1]:.1f}" in said


def test_cifar(said, rows):
    methods = ("T2/plain", "T2/Augerino-4", "SE2-4/partial", "SE2-4/full")
    ours = [rows["data_efficiency"][f"{method}/CIFAR-10/4500"] for method in methods]
    assert [len(results) for results in ours] == [1] * 4
    t, a, p, f = (mean(accuracies(results)) for results in ours)
    assert t > a > p > f
    assert (
        f"the CNN is at {t:.1f} %, with Augerino at {a:.1f}, the Partial G-CNN at {p:.1f}, the G-CNN at {f:.1f}."
        in said
    )
    trained = [f"{100 * results[0]['history'][-1]['train_accuracy']:.0f}" for results in ours]
    assert f"they tell {trained[0]}, {trained[1]}, {trained[2]} and {trained[3]} % of their training images" in said
    assert f"turns its input by up to ±{ours[1][0]['subsets'][0]['theta_deg']:.0f}°" in said
    partial = ours[2]
    shares = " ".join(f"{mean(values) / 180:.2f}".lstrip("0") for values in kept(partial, "theta_deg"))
    assert f"θ is {shares} after lifting" in said
    printed = load_table("table2").rows
    shown = [printed[f"{method}/CIFAR-10"] for method in ("SE2-4/partial", "SE2-4/full", "T2/plain")]
    assert f"the paper has {shown[0]}, {shown[1]} and {shown[2]}" in said
