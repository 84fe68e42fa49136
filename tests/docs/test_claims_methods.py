"""The same of sentences on the 13-layer CNN, kernel networks and departures."""

from statistics import mean

from claims import accuracies, drawn_accuracies, kept, seeds

from partialsym.reproduction.table import load_table, mean_std
from partialsym.runs.schema import read_result
from studies.departures import RESULTS as DEPARTURES


def test_thirteen_layers(said, rows):
    methods = ("T2/plain", "SE2-4/full", "SE2-4/partial", "SE2-4/Augerino")
    ours = {w: [rows["table5"][f"{method}/rotMNIST/width-{w}"] for method in methods] for w in (16, 32)}
    assert {len(results) for width in ours.values() for results in width} == {1}
    at = {width: [f"{mean(accuracies(results)):.2f}" for results in found] for width, found in ours.items()}
    for found in at.values():
        assert found[0] == min(found)
    assert at[16] == sorted(at[16])
    assert f"At width 16 T(2) is at {at[16][0]} %, the G-CNN at {at[16][1]}, the partial one at {at[16][2]}," in said
    wide = f"at width 32 at {at[32][0]}, {at[32][1]}, {at[32][2]} and {at[32][3]}."
    assert f"the CNN with Augerino at {at[16][3]}; {wide}" in said
    printed = [load_table("table5").rows[f"{method}/rotMNIST"] for method in methods]
    assert f"The paper has {printed[0]}, and {printed[1]}, {printed[2]} and {printed[3]} in the best block" in said
    full, partial = ([f"{mean(drawn_accuracies(ours[w][i])):.1f}" for w in (16, 32)] for i in (1, 2))
    assert f"the 13-layer G-CNN falls to {full[0]} % at width 16 and to {full[1]} at width 32" in said
    assert f"the partial one to {partial[0]} and {partial[1]}**" in said
    lost = [mean(accuracies(r)) - mean(drawn_accuracies(r)) for r in rows["table2"].values()]
    assert f"where the ResNets of table 2 lose at most {max(lost):.1f} points" in said
    deterministic = [f"{100 * ours[32][i][0]['accuracy']['validation']:.2f}" for i in (1, 2)]
    assert f"deterministically {deterministic[0]} and {deterministic[1]}" in said


def test_kernels(said, rows):
    ours = [rows["kernels"][kernel] for kernel in ("SIREN", "Fourier", "Gabor", "MAGNet", "MLP")]
    assert {len(results) for results in ours} == {1}
    at = [f"{mean(accuracies(results)):.2f}" for results in ours]
    assert at == sorted(at, reverse=True)
    assert f"SIREN is ahead** with {at[0]} %, then Fourier features with {at[1]}, Gabor with {at[2]}," in said
    sizes = sorted(results[0]["parameters"] for results in ours)
    assert f"MAGNet with {at[3]} and the MLP with {at[4]}, at {sizes[0]:,} to {sizes[-1]:,} parameters." in said
    lost = [100 * results[0]["accuracy"]["test_unsampled"] - mean(drawn_accuracies(results)) for results in ours]
    assert f"loses nothing on the same images, MAGNet {lost[3]:.1f}." in said
    assert lost[4] < 0 < min(lost[:4])


def test_monotonic(said, rows):
    ours = [rows["monotonic"][f"rotMNIST/lambda-{weight}"] for weight in ("0", "1e-3", "1e-1")]
    assert {len(results) for results in ours} == {1}
    at = [f"{mean(accuracies(results)):.2f}" for results in ours]
    assert f"at λ = 0, 10⁻³ and 10⁻¹ it is at {at[0]}, {at[1]} and {at[2]} %" in said
    shares = [[values[0] / 180 for values in kept(results, "theta_deg")] for results in ours]
    shown = [" ".join(f"{share:.3f}".lstrip("0") for share in layers) for layers in shares]
    assert f"θ falls with depth at 10⁻¹, {shown[2]}, and not at 10⁻³, {shown[1]}, or at 0, {shown[0]}." in said
    assert [layers == sorted(layers, reverse=True) for layers in shares] == [False, False, True]


def altered(row, *departures):
    return [[read_result(file) for file in sorted((DEPARTURES / row / name).glob("*.json"))] for name in departures]


def test_departures(said, rows):
    row = "SE2-4/partial/rotMNIST/1000"
    ours = rows["data_efficiency"][row]
    gradient, embedding = altered(row, "theta-gradient", "embedding")
    shown = f"of θ gives {mean_std(accuracies(gradient))} % ({seeds(gradient)}), where ours gives"
    assert f"{shown} {mean_std(accuracies(ours))} ({seeds(ours)}): no difference." in said
    assert min(accuracies(gradient)) < min(accuracies(ours)) < max(accuracies(ours)) < max(accuracies(gradient))
    first, second = (f"{share:.1f}" for share in accuracies(embedding))
    drawn = drawn_accuracies(embedding)
    assert f"embedding gives {first} and {second} %, but under drawn elements" in said
    assert f"both are at {min(drawn):.1f} to {max(drawn):.1f}: it jumps" in said


def test_departures_with_mirrorings(said, rows):
    row = "E2-4/partial/rotMNIST/1000"
    all_ = [rows["data_efficiency"][row], *altered(row, "mirror-gradient", "sum")]
    at = [f"{mean(accuracies(results)):.1f} % ({seeds(results)})" for results in all_]
    assert f"our network is at {at[0]}, that with the published gradient of an undrawn mirroring at {at[1]}," in said
    assert f"that with a sum at {at[2]};" in said
    drawn = [drawn_accuracies(results) for results in all_]
    means = [f"{mean(found):.1f}" for found in drawn]
    assert f"under drawn elements they are at {means[0]}, {means[1]} and {means[2]}." in said
    spans = [f"{min(found):.1f} to {max(found):.1f}" for found in drawn[:2]]
    assert f"single seeds are at {spans[0]} under drawn elements with ours, at {spans[1]} with that." in said
