"""What is written about an exported file, and its answers."""

import onnxruntime
import torch

ABOUT = {"mean": [0.2, 0.4], "std": [0.3, 0.5], "classes": ["a", "b", "ç", "d", "e"], "size": (18, 22)}


def answer(path, images):
    """Logits of the file, by its own runtime."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    return torch.export.load(path).module()(images)
