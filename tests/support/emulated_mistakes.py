"""Mistakes and waits that an emulated GPU has to find: for emulated_runs.py."""

import torch

import partialsym as ps


def mismatches(gpu, patch):
    """Tensors of two devices in one operator."""
    there, here = torch.ones(2, 2, device="cuda"), torch.ones(2, 2)
    layer, found = torch.nn.Linear(2, 2), {}
    for name, wrong in {
        "add": lambda: there + here,
        "cat": lambda: torch.cat([there, here]),
        "stack of numbers": lambda: torch.stack([there.sum(), here.sum()]),
        "matmul": lambda: here @ there,
        "layer": lambda: layer(there),
        "within ours": lambda: ps.GResNet("SE2", width=2, hidden=2, kernel_size=3)(torch.randn(1, 1, 14, 14).cuda()),
        "in place": lambda: there.add_(here),
    }.items():
        try:
            wrong()
        except RuntimeError as error:
            found[name] = str(error)
    fine = there * here.sum()  # a number is no mismatch, as on CUDA
    return {"refused": found, "device": str(fine.device)}


def waits(gpu, patch):
    """What makes the processor wait, and what does not."""
    x, found = torch.ones(3, device="cuda"), {}
    pinned = torch.ones(3).pin_memory()
    for name, wait in {
        "item": lambda: x.sum().item(),
        "float": lambda: float(x.sum()),
        "bool": lambda: bool(x.isfinite().all()),
        "tolist": x.tolist,
        "cpu": x.cpu,
        "to": lambda: torch.ones(3).to("cuda"),
        "new_tensor": lambda: x.new_tensor([1.0]),
        "tensor": lambda: torch.tensor([1.0], device="cuda"),
        "mask": lambda: x[x > 0],
        "nonzero": x.nonzero,
        "equal": lambda: torch.equal(x, x),
        "index on the CPU": lambda: x[torch.tensor([0])],
        "synchronize": torch.cuda.synchronize,
    }.items():
        with gpu.noted() as found[name]:
            wait()
    with gpu.noted() as free:
        pinned.to("cuda", non_blocking=True)
        x.new_full((2,), 3.0)
        torch.zeros(3, device="cuda")
        torch.where(x > 2, x.amax(), 0.0).add_(1)
    return {"waits": found, "free": free}
