"""The demo: a G-CNN and an otherwise equal Partial G-CNN over SE(2), on sixes with a partial symmetry."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from partialsym.config import DataConfig, Experiment, ModelConfig, TrainingConfig
from partialsym.figures import responses, save, subsets
from partialsym.training.fit import train

EXPERIMENT = Experiment(
    name="demo",
    data=DataConfig(name="digits-6-180"),
    model=ModelConfig(group="SE2", samples=8, width=8, kernel="SIREN"),
    training=TrainingConfig(epochs=8, batch_size=32, density_lr=1e-2),
)


def demo(out: Path, seed: int = 0, progress: bool = False) -> Iterator[str]:
    """Train both networks to distinguish a 6 from the same 6 rotated by 180°. Yields lines of output for the user."""
    results = {}
    for name, partial in (("G-CNN", False), ("Partial G-CNN", True)):
        config = replace(
            EXPERIMENT, name=name.replace(" ", "-"), seed=seed, model=replace(EXPERIMENT.model, partial=partial)
        )
        results[name] = train(config, out / "runs", resume=True, progress=progress).result()
        yield f"{name}: {100 * results[name]['accuracy']['test']:.1f} %"
    for name, result in results.items():
        yield f"learned interval of every layer, {name}:"
        for subset in result["subsets"]:
            yield f"  {subset['layer']:<14} ±{subset['theta_deg']:.0f}°"
    seeds = {name: [result] for name, result in results.items()}
    save(subsets(seeds), out / "subsets.png")
    save(responses(seeds), out / "response.png")
    yield f"learned subsets per layer: {out / 'subsets.png'}"
    yield f"response to an input turned through 360°: {out / 'response.png'}"
