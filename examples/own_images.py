"""Train on images of your own: a folder with a folder of image files for each class."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from partialsym.config import DataConfig, Experiment, ModelConfig, TrainingConfig
from partialsym.data.reading import read_images
from partialsym.measure import logits
from partialsym.training.fit import train


def write_images(root: Path) -> None:
    """What stands here for your own images: ROOT/six/*.png and ROOT/nine/*.png, grey, 16×16 pixels."""
    digits = load_digits()
    for name, digit in (("six", 6), ("nine", 9)):
        (root / name).mkdir(parents=True)
        for i, pixels in enumerate(digits.images[digits.target == digit]):
            grey = Image.fromarray((pixels * 255 / 16).astype(np.uint8))
            grey.resize((16, 16)).save(root / name / f"{i:03}.png")


with TemporaryDirectory() as folder:
    root = Path(folder) / "images"
    write_images(root)
    experiment = Experiment(
        "six-or-nine",
        data=DataConfig(source="folder", root=str(root), size=16),
        model=ModelConfig("SE2", samples=4, width=4, kernel_size=3),
        training=TrainingConfig(epochs=3, batch_size=32, lr=1e-2, density_lr=5e-2),
    )
    # Everything a run makes lies in its folder: the model, checkpoints, metrics, what each layer keeps.
    run = train(experiment, Path(folder) / "runs", progress=False)
    result = run.result()
    print("images:", ", ".join(f"{result['images'][split]} for {split}" for split in ("train", "validation", "test")))
    print(f"{result['accuracy']['test']:.0%} of the test images are right")

    # The trained network, and what it says of one file.
    trained = run.model()
    files = [root / "six" / "000.png", root / "nine" / "000.png"]
    images = read_images(files, trained.size, len(trained.preprocess.mean), trained.fit, trained.range)
    for file, p in zip(files, logits(trained.model, images, trained.preprocess).softmax(1), strict=True):
        print(f"{file.relative_to(root)}: {trained.classes[int(p.argmax())]}")
