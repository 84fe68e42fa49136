"""A plain convolution, by products of matrices where there are any: the numbers of torch's own."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from partialsym.ops.conv2d import Options, conv2d, conv2d_backward, conv2d_of_images

PRODUCTS = {
    "covered": ((5, 6, 3, 3), (4, 6, 3, 3), Options()),
    "covered by one tap": ((5, 6, 1, 1), (4, 6, 1, 1), Options()),
    "covered, at a stride": ((2, 1, 7, 7), (3, 1, 7, 7), Options(stride=2)),
    "one tap": ((2, 6, 4, 8), (4, 6, 1, 1), Options()),
    "one tap, many pixels": ((2, 6, 13, 15), (4, 6, 1, 1), Options()),
}
CONVOLUTIONS = {
    "smaller kernel": ((2, 6, 5, 4), (4, 6, 3, 3), Options()),
    "as large, but padded": ((2, 6, 3, 3), (4, 6, 3, 3), Options(1)),
    "as large, in groups": ((2, 6, 3, 3), (4, 3, 3, 3), Options(groups=2)),
    "one tap, padded": ((2, 6, 4, 4), (4, 6, 1, 1), Options(1)),
    "one tap, at a stride": ((2, 6, 8, 8), (4, 6, 1, 1), Options(stride=2)),
    "dilated": ((2, 6, 5, 5), (4, 6, 3, 3), Options(0, 1, 2)),
}
CASES = PRODUCTS | CONVOLUTIONS


class Called(TorchDispatchMode):
    """The names of the operators that were called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **kwargs or {})


def tensors(case, last, dtype=torch.float64):
    f, weight, options = CASES[case]
    layout = torch.channels_last if last else torch.contiguous_format
    made = [torch.randn(shape, dtype=dtype).to(memory_format=layout) for shape in (f, weight)]
    return *made, torch.randn(weight[0], dtype=dtype), options


def by_torch(f, weight, bias, o):
    return F.conv2d(f, weight, bias, o.stride, o.padding, o.dilation, o.groups)


@pytest.mark.parametrize("last", [False, True], ids=["usual", "channels_last"])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_torchs(case, last):
    f, weight, bias, options = tensors(case, last)
    expected = by_torch(f, weight, bias, options)
    for each in (conv2d, conv2d_of_images):
        torch.testing.assert_close(each(f, weight, bias, options), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(conv2d(f, weight, None, options), by_torch(f, weight, None, options), rtol=0, atol=1e-12)
    f, weight = f.requires_grad_(), weight.requires_grad_()
    out = by_torch(f, weight, bias, options)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, (f, weight), grad)
    with torch.no_grad():
        made = conv2d_backward(grad, f, weight, options, (True, True))
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_wanted_is_computed(case):
    f, weight, bias, options = tensors(case, last=False)
    grad = by_torch(f, weight, bias, options)
    both = conv2d_backward(grad, f, weight, options, (True, True))
    for wanted in ((True, False), (False, True)):
        made = conv2d_backward(grad, f, weight, options, wanted)
        torch.testing.assert_close(made[wanted.index(True)], both[wanted.index(True)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_product_takes_no_convolution(case):
    f, weight, bias, options = tensors(case, last=False)
    with torch.no_grad(), Called() as called:
        out = conv2d(f, weight, bias, options)
        conv2d_backward(out, f, weight, options, (True, True))
    assert any("convolution" in name for name in called.names) == (case in CONVOLUTIONS)


@pytest.mark.parametrize("case", PRODUCTS)
def test_16_bits_sum_in_32(case):
    f, weight, bias, options = tensors(case, last=False, dtype=torch.bfloat16)
    wide = [part.float().requires_grad_() for part in (f, weight)]
    out = by_torch(*wide, bias.float(), options)
    torch.testing.assert_close(conv2d(f, weight, bias, options).float(), out, rtol=2**-7, atol=2**-6)
    grad = torch.randn_like(out).bfloat16()
    made = conv2d_backward(grad, f, weight, options, (True, True))
    for part, expected in zip(made, torch.autograd.grad(out, wide, grad.float()), strict=True):
        torch.testing.assert_close(part.float(), expected, rtol=2**-7, atol=2**-6)


def test_a_dilated_kernel_as_large_as_the_map_is_refused_as_by_torch():
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        conv2d(torch.randn(2, 6, 3, 3), torch.randn(4, 6, 3, 3), None, Options(dilation=2))


@pytest.mark.parametrize(("channels", "last"), [(1, True), (3, True), (4, False)])
@pytest.mark.parametrize("options", [Options(1), Options(0, 2), Options(2, 1, 2)], ids=str)
def test_images_of_few_channels_give_maps_in_channels_last(channels, last, options):
    f, weight, bias = torch.randn(2, channels, 8, 8), torch.randn(6, channels, 3, 3), torch.randn(6)
    out = conv2d_of_images(f, weight, bias, options)
    assert out.is_contiguous(memory_format=torch.channels_last) == last
    torch.testing.assert_close(out, by_torch(f, weight, bias, options), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "options"),
    [((3, 5, 1, 1), Options()), ((3, 3, 8, 8), Options()), ((3, 1, 3, 3), Options(1, groups=3))],
    ids=["one tap", "covered", "depthwise"],
)
def test_images_of_few_channels_stay_as_they_are_where_nothing_is_gained(given, options):
    f, weight = torch.randn(2, 3, 8, 8), torch.randn(*given)
    weight = weight[:, :3] if options.groups == 1 else weight
    out = conv2d_of_images(f, weight, None, options)
    assert out.is_contiguous()
    torch.testing.assert_close(out, by_torch(f, weight, None, options), rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_batch_and_a_batch_of_one(count, channels, side):
    f, weight, bias = torch.randn(count, channels, 5, 5), torch.randn(4, channels, side, side), torch.randn(4)
    for each in (conv2d, conv2d_of_images):
        out = each(f, weight, bias, Options())
        torch.testing.assert_close(out, by_torch(f, weight, bias, Options()), rtol=0, atol=1e-5)
