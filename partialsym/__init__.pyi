"""The public names, each where it is defined: read by type checkers, and by lazy-loader when one is asked for."""

from . import models as models
from .component_choice import choose_components as choose_components
from .densities import (
    Bernoulli as Bernoulli,
    Density as Density,
    DiracAlgebra as DiracAlgebra,
    HaarAlgebra as HaarAlgebra,
    Uniform as Uniform,
    dirac as dirac,
    haar as haar,
    learned as learned,
    parameter_groups as parameter_groups,
    set_proportional as set_proportional,
    set_temperature as set_temperature,
)
from .errors import PartialsymError as PartialsymError
from .export.conversion import to_conv2d as to_conv2d
from .groups import (
    E2 as E2,
    SE2 as SE2,
    T2 as T2,
    Cyclic as Cyclic,
    Dihedral as Dihedral,
    Group as Group,
    Mirror as Mirror,
    group as group,
)
from .inference import monte_carlo as monte_carlo, recalibrate as recalibrate
from .kernels import (
    MLP as MLP,
    SIREN as SIREN,
    Fourier as Fourier,
    Gabor as Gabor,
    Grid as Grid,
    Kernel as Kernel,
    MAGNet as MAGNet,
)
from .lifting import Change as Change, Lifted as Lifted, LiftReport as LiftReport, lift as lift
from .measure import (
    class_responses as class_responses,
    dense_errors as dense_errors,
    equivariance_errors as equivariance_errors,
    half_changed as half_changed,
    learned_subsets as learned_subsets,
    lie_derivative as lie_derivative,
    measured_range as measured_range,
    predictions_unchanged as predictions_unchanged,
    preserved_ranges as preserved_ranges,
    range_of as range_of,
    subset_spread as subset_spread,
)
from .models import (
    GCNN3 as GCNN3,
    GCNN13 as GCNN13,
    Augerino as Augerino,
    GConvNeXt as GConvNeXt,
    GResNet as GResNet,
    GStagedResNet as GStagedResNet,
    GUNet as GUNet,
    exact_symmetries as exact_symmetries,
)
from .models.saving import load_model as load_model, save_model as save_model
from .nn.activation import Activation as Activation, Dropout as Dropout, ReLU as ReLU
from .nn.conv import GroupConv as GroupConv
from .nn.norm import BatchNorm as BatchNorm, InstanceNorm as InstanceNorm
from .nn.pool import (
    GlobalPool as GlobalPool,
    GroupPool as GroupPool,
    LinearPool as LinearPool,
    SpatialPool as SpatialPool,
    project as project,
)
from .nn.resampling import AdaptivePool as AdaptivePool, BlurPool as BlurPool, Upsample as Upsample
from .nn.separable import SeparableGroupConv as SeparableGroupConv
from .nn.sync import share_statistics as share_statistics
from .registry import (
    register_dataset as register_dataset,
    register_group as register_group,
    register_kernel as register_kernel,
    register_network as register_network,
)
from .signal import Elements as Elements, Signal as Signal, cat as cat

__version__: str
