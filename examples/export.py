"""Export a trained network: plain convolutions in one file, for torch.export or for onnxruntime."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import partialsym as ps
from partialsym.export.onnx import export

torch.manual_seed(0)
digits = load_digits(n_class=2)  # zeros and ones
images = torch.tensor(digits.images / 16).float()[:, None]  # in [0, 1]
labels, mean, std = torch.tensor(digits.target), float(images.mean()), float(images.std())
training, test = (images[:240] - mean) / std, (images[240:] - mean) / std

model = ps.GResNet("SE2", samples=4, num_classes=2, width=4, kernel_size=3, pools=("lifting",))
optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(30):
    batch = torch.randint(len(training), (32,))
    loss = F.cross_entropy(model(training[batch]), labels[batch])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
ps.recalibrate(model, [training])
with torch.no_grad():
    expected = model.eval()(test)
print(f"{float((expected.argmax(1) == labels[240:]).float().mean()):.0%} of {len(test)} test images are right")


def compare(what: str, found: torch.Tensor) -> None:
    difference = float((found - expected).abs().max())
    print(f"{what}: {'the same logits' if difference < 1e-3 else f'logits differ by {difference:.2g}'}")


# The same network in plain convolutions: every kernel is evaluated once, and norms are folded in.
plain = ps.to_conv2d(model)
with torch.no_grad():
    compare("to_conv2d", plain(test))

# One file that needs no partialsym. It takes images in [0, 1], a batch of any size, and normalises them itself.
with TemporaryDirectory() as folder:
    program, network = Path(folder) / "model.pt2", Path(folder) / "model.onnx"
    for path in (program, network):
        export(model, path, mean=[mean], std=[std], classes=["zero", "one"], size=(8, 8))

    with torch.no_grad():
        compare("torch.export", torch.export.load(program).module()(images[240:]))

    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    (answers,) = session.run(["logits"], {"images": images[240:].numpy()})
    compare("onnxruntime", torch.from_numpy(answers))
