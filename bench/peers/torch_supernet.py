"""The TuNAS supernet in plain torch.nn, with masks, as the paper describes it.

Everything is computed at full width. A filters decision becomes a 0/1 prefix mask; masks multiply the kernels on both
sides and the result of every batch norm. Of the kernel sizes only the chosen one is computed, squeeze-and-excite and
skippable layers only when chosen, as the published implementation branches. Batch norm uses the batch's statistics.
Activations are NCHW (in either memory layout). Strided convolutions pad symmetrically: the same arithmetic as
TensorFlow's SAME without its extra copy. The L2 term covers the masked kernels.

An architecture is a list of option numbers in the order of the published `indices` strings.
"""

import torch
import torch.nn.functional as F
from torch import nn

MULTIPLIERS = (0.5, 0.625, 0.75, 1, 1.25, 1.5, 2)
EPSILON = 1e-3


def round8(filters, multiplier=1.0):
    return max(8, 8 * int(filters * multiplier / 8 + 0.5))


def squeezed(c):
    """Hidden width of squeeze-and-excite: its own rounding rule."""
    hidden = max(8, int((0.25 * c + 4) / 8) * 8)
    return hidden + 8 if hidden < 0.9 * 0.25 * c else hidden


def masked(weight, m_in, m_out):
    if m_in is not None:
        weight = weight * m_in.view(1, -1, 1, 1)
    return weight if m_out is None else weight * m_out.view(-1, 1, 1, 1)


def conv_norm_act(x, weight, scale, shift, m_in, m_out, stride, groups, act, fold):
    """act(BN(conv(x, masked kernel)) * mask) and sum(masked kernel^2). fold: the mask goes to scale and shift."""
    weight = masked(weight, m_in, m_out)
    y = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
    if fold and m_out is not None:
        scale, shift = scale * m_out, shift * m_out
    y = F.batch_norm(y, None, None, scale, shift, True, 0.0, EPSILON)
    if not fold and m_out is not None:
        y = y * m_out.view(1, -1, 1, 1)
    return act(y), weight.square().sum()


def conv_bias_act(x, weight, bias, m_in, m_out, act):
    weight = masked(weight, m_in, m_out)
    bias = bias if m_out is None else bias * m_out
    return act(F.conv2d(x, weight, bias)), weight.square().sum()


def squeeze_excite(x, w1, b1, w2, b2, mask, m_hidden):
    hidden, l2_1 = conv_bias_act(x.mean((2, 3), keepdim=True), w1, b1, mask, m_hidden, F.relu)
    gate, l2_2 = conv_bias_act(hidden, w2, b2, m_hidden, mask, torch.sigmoid)
    return x * gate, l2_1 + l2_2


def identity(x):
    return x


class State:
    """What all layers of one supernet share: the architecture, its masks, the L2 terms, and the functions to call.

    The regions are what `compiled` compiles: each is one graph per shape. The network around them stays in Python
    because it branches on the architecture, and a whole-network graph would be compiled anew for every sample.
    """

    def __init__(self, fold, compile_region):
        self.fold, self.options, self.skips, self.masks, self.l2, self.arch = fold, [], [], {}, [], None
        self.regions = {f: compile_region(f) for f in (conv_norm_act, conv_bias_act, squeeze_excite)}

    def decide(self, options):
        self.options.append(options)
        return len(self.options) - 1

    def decide_skip(self):
        self.skips.append(self.decide(2))
        return self.skips[-1]

    def prefix(self, stored, active, device):
        key = stored, active
        if key not in self.masks:
            self.masks[key] = (torch.arange(stored, device=device) < active).float()
        return self.masks[key]

    def run(self, region, *args):
        y, l2 = self.regions[region](*args)
        self.l2.append(l2)
        return y


class Width:
    """The output filters of a block. One option: no mask."""

    def __init__(self, state, options):
        self.state, self.options, self.max, self.decision = state, options, options[-1], None

    def active(self):
        return self.options[self.state.arch[self.decision]]

    def mask(self, device):
        return None if len(self.options) == 1 else self.state.prefix(self.max, self.active(), device)


def he_normal(c_out, c_in, k):
    weight = torch.empty(c_out, c_in, k, k)
    sigma = (2 / (c_in * k * k)) ** 0.5 / 0.87962566103423978
    return nn.Parameter(nn.init.trunc_normal_(weight, 0.0, sigma, -2 * sigma, 2 * sigma))


class ConvNorm(nn.Module):
    def __init__(self, state, c_in, c_out, k=1, stride=1, depthwise=False, act=identity):
        super().__init__()
        self.state, self.stride, self.act, self.groups = state, stride, act, c_out if depthwise else 1
        self.weight = he_normal(c_out, 1 if depthwise else c_in, k)
        self.scale, self.shift = nn.Parameter(torch.ones(c_out)), nn.Parameter(torch.zeros(c_out))

    def forward(self, x, m_in, m_out):
        m_in = m_in if self.groups == 1 else None
        return self.state.run(conv_norm_act, x, self.weight, self.scale, self.shift, m_in, m_out, self.stride,
                              self.groups, self.act, self.state.fold)


class SqueezeExcite(nn.Module):
    def __init__(self, state, c):
        super().__init__()
        self.state, self.hidden = state, squeezed(c)
        self.w1, self.w2 = he_normal(self.hidden, c, 1), he_normal(c, self.hidden, 1)
        self.b1, self.b2 = nn.Parameter(torch.zeros(self.hidden)), nn.Parameter(torch.zeros(c))

    def forward(self, x, mask, active):
        m_hidden = self.state.prefix(self.hidden, squeezed(active), x.device)
        return self.state.run(squeeze_excite, x, self.w1, self.b1, self.w2, self.b2, mask, m_hidden)


class Stem(nn.Module):
    def __init__(self, state, c_out, kernels, act):
        super().__init__()
        self.state, self.c_out = state, c_out
        self.convs = nn.ModuleList(ConvNorm(state, 3, c_out.max, k, 2, act=act) for k in kernels)
        self.kernel = state.decide(len(kernels)) if len(kernels) > 1 else None

    def forward(self, x):
        chosen = 0 if self.kernel is None else self.state.arch[self.kernel]
        return self.convs[chosen](x, None, self.c_out.mask(x.device))


class Separable(nn.Module):
    """shared: kernel sizes share the pointwise conv; residual, skippable. Otherwise three complete layers."""

    def __init__(self, state, c_in, c_out, shared):
        super().__init__()
        self.state, self.c_in, self.c_out, self.shared = state, c_in, c_out, shared
        self.depthwise = nn.ModuleList(
            ConvNorm(state, c_in.max, c_in.max, k, depthwise=True, act=F.relu) for k in (3, 5, 7))
        self.project = nn.ModuleList(ConvNorm(state, c_in.max, c_out.max) for _ in range(1 if shared else 3))
        self.kernel = state.decide(3)
        self.skip = state.decide_skip() if shared else None

    def forward(self, x):
        arch, m_in = self.state.arch, self.c_in.mask(x.device)
        if self.skip is not None and arch[self.skip]:
            return x
        chosen = arch[self.kernel]
        y = self.depthwise[chosen](x, m_in, m_in)
        y = self.project[0 if self.shared else chosen](y, m_in, self.c_out.mask(x.device))
        return x + y if self.shared else y


class Bottleneck(nn.Module):
    def __init__(self, state, c_in, c_out, stride, expansions, se, act, skippable, wrapped):
        super().__init__()
        self.state, self.c_in, self.c_out, self.expansions = state, c_in, c_out, expansions
        self.c_max = round8(c_in.max, expansions[-1])
        self.expand = ConvNorm(state, c_in.max, self.c_max, act=act)
        self.depthwise = nn.ModuleList(
            ConvNorm(state, self.c_max, self.c_max, k, stride, depthwise=True, act=act) for k in (3, 5, 7))
        self.project = ConvNorm(state, self.c_max, c_out.max)
        self.kernel, self.expansion = state.decide(3), state.decide(len(expansions))
        self.gate, self.se = (state.decide(2), SqueezeExcite(state, self.c_max)) if se else (None, None)
        self.skip = state.decide_skip() if skippable else None
        if wrapped and not skippable:
            state.decide(1)

    def forward(self, x):
        state, arch = self.state, self.state.arch
        if self.skip is not None and arch[self.skip]:
            return x
        active = round8(self.c_in.active(), self.expansions[arch[self.expansion]])
        m_in, m_out = self.c_in.mask(x.device), self.c_out.mask(x.device)
        inner = state.prefix(self.c_max, active, x.device)
        y = self.depthwise[arch[self.kernel]](self.expand(x, m_in, inner), inner, inner)
        if self.se is not None and arch[self.gate]:
            y = self.se(y, inner, active)
        y = self.project(y, inner, m_out)
        return x + y if self.skip is not None else y


class Head(nn.Module):
    """1x1 conv, batch norm, act, pool; V3-like nets add a 1x1 conv with bias behind the pool."""

    def __init__(self, state, c_in, c_out, act, biased):
        super().__init__()
        self.state, self.c_in, self.c_out, self.act, self.biased = state, c_in, c_out, act, biased
        if biased:
            self.weight, self.bias = he_normal(c_out.max, c_in.max, 1), nn.Parameter(torch.zeros(c_out.max))
        else:
            self.conv = ConvNorm(state, c_in.max, c_out.max, act=act)

    def forward(self, x):
        m_in, m_out = self.c_in.mask(x.device), self.c_out.mask(x.device)
        if self.biased:
            return self.state.run(conv_bias_act, x, self.weight, self.bias, m_in, m_out, self.act)
        return self.conv(x, m_in, m_out).mean((2, 3), keepdim=True)


class Supernet(nn.Module):
    def __init__(self, space, width=1.0, classes=1001, fold=False, compile_region=lambda f: f):
        super().__init__()
        self.state = State(fold, compile_region)
        self.layers = nn.ModuleList()
        build = self.build_v3_like if space == "mobilenet_v3_like_search" else self.build_proxyless
        c = build(space, width)
        self.classifier = nn.Linear(c.max, classes)
        nn.init.normal_(self.classifier.weight, 0.0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def block(self, filters, *layers):
        """Adds a block's layers; its filters decision is numbered after theirs."""
        for layer in layers:
            self.layers.append(layer(filters))
        filters.decision = self.state.decide(len(filters.options))
        return filters

    def widths(self, bases, multipliers):
        return [Width(self.state, sorted({round8(base, m) for m in multipliers})) for base in bases]

    def bottlenecks(self, previous, stride, count, expansions, se, act, wrapped):
        def make(first):
            return lambda out: Bottleneck(self.state, previous if first else out, out, stride if first else 1,
                                          expansions, se, act, not first, wrapped)
        return [make(i == 0) for i in range(count)]

    def build_proxyless(self, space, width):
        fixed = space == "proxylessnas_search"
        bases = (32, 16, 32, 40, 80, 96, 192, 320, 1280) if fixed else (16, 16, 16, 32, 64, 128, 256, 512, 1024)
        w = self.widths(bases, [width] if fixed else [m * width for m in MULTIPLIERS])
        self.block(w[0], lambda out: Stem(self.state, out, (3,), F.relu))
        self.block(w[1], lambda out: Separable(self.state, w[0], out, shared=False))
        for i, stride, count in ((2, 2, 4), (3, 2, 4), (4, 2, 4), (5, 1, 4), (6, 2, 4), (7, 1, 1)):
            self.block(w[i], *self.bottlenecks(w[i - 1], stride, count, (3, 6), False, F.relu, True))
        return self.block(w[8], lambda out: Head(self.state, w[7], out, F.relu, biased=False))

    def build_v3_like(self, space, width):
        w = self.widths((16, 16, 32, 64, 128, 256, 512, 1024), [m * width for m in MULTIPLIERS])
        self.block(w[0], lambda out: Stem(self.state, out, (3, 5), F.hardswish),
                   lambda out: Separable(self.state, out, out, shared=True))
        for i, stride in ((1, 2), (2, 2), (3, 2), (4, 1), (5, 2)):
            act = F.relu if i < 3 else F.hardswish
            self.block(w[i], *self.bottlenecks(w[i - 1], stride, 4, (1, 2, 3, 4, 5, 6), True, act, False))
        self.block(w[6], lambda out: Head(self.state, w[5], out, F.hardswish, biased=False))
        return self.block(w[7], lambda out: Head(self.state, w[6], out, F.hardswish, biased=True))

    def sample(self, rng):
        return [int(rng.randint(n)) for n in self.state.options]

    def covering(self):
        """Three architectures without skips that together run every option of every layer."""
        return [[0 if i in self.state.skips else min(o, n - 1) for i, n in enumerate(self.state.options)]
                for o in range(3)]

    def forward(self, x, arch):
        """Logits, and the sum of squares of the masked kernels in use (times decay/2 it is the L2 term)."""
        if len(arch) != len(self.state.options):
            raise ValueError(f"{len(arch)} indices given; this space has {len(self.state.options)} decisions")
        self.state.arch, self.state.l2 = arch, []
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x.flatten(1)), torch.stack(self.state.l2).sum()
