// Mix, dropout, global pooling, gate, norm, softmax cross-entropy and the optimizers on the GPU
// against their formulas in double.
#include "kernels/dropout.h"
#include "kernels/error.h"
#include "kernels/gate.h"
#include "kernels/mix.h"
#include "kernels/norm.h"
#include "kernels/pool.h"
#include "kernels/softmax_xent.h"
#include "kernels/update.h"
#include "tests/cuda/reference.h"

namespace tunas::testing {
namespace {

constexpr DType kTypes[] = {DType::bf16, DType::f32};
constexpr Act kActs[] = {Act::none,       Act::relu,    Act::relu6,
                         Act::hard_swish, Act::sigmoid, Act::hard_sigmoid};

TEST(CudaMix, UpToFourTermsOfEveryActivation) {
  for (const DType type : kTypes)
    for (const int c : {8, 24, 184, 536, 960})
      for (int terms = 1; terms <= 4; ++terms) {
        kernels::MixForward args;
        args.terms = terms;
        std::vector<SourceField> x;
        for (int t = 0; t < terms; ++t) {
          x.emplace_back(type, 3, 5, 7, c, 10 * t + 1, kActs[(t + c / 8) % 6], t != 1);
          args.x[t] = x[t].args();
          args.weight[t] = 1.0f / static_cast<float>(t + 1);
        }
        const Field out(type, 3, 5, 7, c);
        args.out = out.tensor();
        kernels::cuda::mix(gpu(), args);
        Values want(x[0].size());
        for (std::size_t i = 0; i < want.size(); ++i)
          for (int t = 0; t < terms; ++t) want[i] += args.weight[t] * x[t].a(i);
        expect_near(out, want, limit(type), "mix");
      }
}

TEST(CudaMix, BackwardLeavesDzAndSums) {
  for (const DType type : kTypes)
    for (const Write how : {Write::overwrite, Write::accumulate})
      for (const Act kind : kActs)
        for (const int c : {8, 72, 960}) {
          const SourceField x(type, 2, 9, 7, c, 3, kind);
          const Field dout = Field::random(type, 2, 9, 7, c, 50);
          const GradField dx(x, 60, how);
          kernels::cuda::mix_backward(gpu(), {dout.tensor(), 0.5f, x.args(), dx.args()});
          Values du = dout.values;
          for (double& d : du) d *= 0.5;
          dx.check(du, limit(type));
        }
}

/// Where slopes jump: they are those of source.h, to the bit.
TEST(CudaMix, BackwardAtTheKinks) {
  for (const DType type : kTypes)
    for (const Act kind : {Act::relu, Act::relu6, Act::hard_swish, Act::hard_sigmoid}) {
      SourceField x(type, 1, 1, 1, 8, 3, kind, false);
      x.y.values = {0, 6, 3, -3, -0.0, 6.5, 4, -4};
      x.y.upload();
      Field dout(type, 1, 1, 1, 8);
      dout.values.assign(8, 3);
      dout.upload();
      const Field dz(type, 1, 1, 1, 8);
      kernels::SourceGrad grad;
      grad.dz = dz.tensor();
      kernels::cuda::mix_backward(gpu(), {dout.tensor(), 1.0f, x.args(), grad});
      Values want(8);
      for (std::size_t i = 0; i < 8; ++i) want[i] = 3 * activate_grad(kind, x.z(i));
      expect_near(dz, want, 1e-7, "dz");
    }
}

TEST(CudaMix, BackwardOfAPlainTermNeedsNoSums) {
  const SourceField x(DType::bf16, 40, 28, 28, 40, 3, Act::none, false);
  const Field dout = Field::random(DType::bf16, 40, 28, 28, 40, 50);
  Field dz(DType::bf16, 40, 28, 28, 40);
  kernels::SourceGrad grad;
  grad.dz = dz.tensor();
  kernels::cuda::mix_backward(gpu(), {dout.tensor(), 1.0f, x.args(), grad});
  EXPECT_EQ(dz.download(), dout.values);
}

TEST(CudaDropout, DrawsTheSameMaskTwice) {
  const PhiloxKey key{77, Purpose::dropout, 3, 5};
  const Buffer buffer(sizeof key);
  cuda_ok(cudaMemcpy(buffer.data(), &key, sizeof key, cudaMemcpyHostToDevice));
  const auto* there = static_cast<const PhiloxKey*>(buffer.data());
  const float rate = 0.3f;
  for (const DType type : kTypes)
    for (const int c : {8, 1280}) {
      const SourceField x(type, 16, 1, 1, c, 3, Act::hard_swish);
      const Field out(type, 16, 1, 1, c);
      kernels::cuda::dropout(gpu(), {x.args(), rate, there, out.tensor()});
      const Field dout = Field::random(type, 16, 1, 1, c, 50);
      const GradField dx(x, 60);
      kernels::cuda::dropout_backward(gpu(), {dout.tensor(), x.args(), rate, there, dx.args()});
      Values want(x.size()), du = dout.values;
      int kept = 0;
      for (std::size_t i = 0; i < want.size(); ++i) {
        const bool keep = uniform_float(philox(key, i / 4).v[i % 4]) >= rate;
        kept += keep;
        want[i] = keep ? x.a(i) / (1 - rate) : 0;
        du[i] = keep ? du[i] / (1 - rate) : 0;
      }
      EXPECT_GT(kept, 0);
      EXPECT_LT(kept, static_cast<int>(want.size()));
      expect_near(out, want, limit(type), "dropout");
      dx.check(du, limit(type));
    }
}

TEST(CudaPool, ForwardAndBackward) {
  for (const DType type : kTypes)
    for (const int c : {8, 72, 536})
      for (const int hw : {1, 7, 15}) {
        const SourceField x(type, 3, hw, hw, c, 3, Act::hard_swish);
        const Field y(type, 3, 1, 1, c);
        kernels::cuda::pool(gpu(), {x.args(), y.tensor()});
        const double pixels = hw * hw;
        Values want(3 * c);
        for (std::size_t i = 0; i < x.size(); ++i) want[x.gate_index(i)] += x.a(i) / pixels;
        expect_near(y, want, limit(type), "pool");

        const Field dy = Field::random(type, 3, 1, 1, c, 50);
        for (const Write how : {Write::overwrite, Write::accumulate}) {
          const GradField dx(x, 60, how);
          kernels::cuda::pool_backward(gpu(), {dy.tensor(), x.args(), {}, dx.args()});
          Values du(x.size());
          for (std::size_t i = 0; i < du.size(); ++i) du[i] = dy.values[x.gate_index(i)] / pixels;
          dx.check(du, limit(type));
        }
        GradField dx(x, 60);  // in place over what a gated reader left
        dx.dz = Field::random(type, 3, hw, hw, c, 70);
        Values du = dx.dz.values;
        kernels::cuda::pool_backward(gpu(), {dy.tensor(), x.args(), dx.dz.tensor(), dx.args()});
        for (std::size_t i = 0; i < du.size(); ++i) du[i] += dy.values[x.gate_index(i)] / pixels;
        dx.check(du, limit(type));
      }
}

TEST(CudaGate, ForwardAndBackward) {
  for (const DType type : kTypes)
    for (const Act kind : {Act::sigmoid, Act::hard_sigmoid}) {
      const Field x = Field::random(type, 5, 1, 1, 72, 1, -5, 5);
      const Field gate(DType::f32, 5, 1, 1, 72);
      kernels::cuda::gate(gpu(), {x.tensor(), kind, 0.25f, 0.75f, gate.tensor()});
      const Field dgate = Field::random(DType::f32, 5, 1, 1, 72, 2);
      const Field dx(type, 5, 1, 1, 72);
      kernels::cuda::gate_backward(gpu(), {x.tensor(), kind, 0.75f, dgate.tensor(), dx.tensor()});
      Values want(x.values.size()), want_dx(x.values.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        want[i] = 0.25 + 0.75 * activate(kind, x.values[i]);
        want_dx[i] = 0.75 * activate_grad(kind, x.values[i]) * dgate.values[i];
      }
      expect_near(gate, want, 1e-6, "gate");
      expect_near(dx, want_dx, limit(type), "dx");
    }
}

TEST(CudaNorm, ForwardAndBackward) {
  const int c = 200;
  const double rows = 37, eps = 1e-3, momentum = 0.9;
  const Field gamma = Field::channels(c, 1), beta = Field::channels(c, 2);
  const Field mean = Field::channels(c, 3), variance = Field::channels(c, 4, 0.1, 2);
  const Field inv_std(DType::f32, 1, 1, 1, c), scale(DType::f32, 1, 1, 1, c),
      shift(DType::f32, 1, 1, 1, c);
  const Field running_mean = Field::channels(c, 5), running_variance = Field::channels(c, 6, 0.5);
  kernels::cuda::norm(
      gpu(), {c, 37, 1e-3f, gamma.f32(), beta.f32(), mean.f32(), variance.f32(), inv_std.f32(),
              scale.f32(), shift.f32(), 0.9f, running_mean.f32(), running_variance.f32()});
  const Field s1 = Field::channels(c, 7), s2 = Field::channels(c, 8);
  const Field ca(DType::f32, 1, 1, 1, c), cb(DType::f32, 1, 1, 1, c), cc(DType::f32, 1, 1, 1, c);
  const Field dgamma = Field::channels(c, 9), dbeta = Field::channels(c, 10);
  kernels::cuda::norm_backward(
      gpu(), {c, 37, mean.f32(), inv_std.f32(), scale.f32(), s1.f32(), s2.f32(), ca.f32(), cb.f32(),
              cc.f32(), dgamma.f32(), dbeta.f32()});
  Values want[10];
  for (Values& v : want) v.resize(c);
  for (int i = 0; i < c; ++i) {
    const double inv = 1 / std::sqrt(variance.values[i] + eps), k = gamma.values[i] * inv;
    want[0][i] = inv;
    want[1][i] = k;
    want[2][i] = beta.values[i] - mean.values[i] * k;
    want[3][i] = momentum * running_mean.values[i] + (1 - momentum) * mean.values[i];
    want[4][i] = momentum * running_variance.values[i] +
                 (1 - momentum) * variance.values[i] * rows / (rows - 1);
    want[5][i] = k;
    want[6][i] = -k * inv * s2.values[i] / rows;
    want[7][i] = -k * s1.values[i] / rows + k * inv * mean.values[i] * s2.values[i] / rows;
    want[8][i] = dgamma.values[i] + s2.values[i];
    want[9][i] = dbeta.values[i] + s1.values[i];
  }
  const Field* got[] = {&inv_std, &scale, &shift, &running_mean, &running_variance,
                        &ca,      &cb,    &cc,    &dgamma,       &dbeta};
  for (int i = 0; i < 10; ++i) expect_near(*got[i], want[i], 1e-6, "norm");
}

struct Softmax {
  DType type, gradient;  // of logits and of dlogits
  int classes;
  float smoothing = 0.1f;
  double top = 4;  // logits are in [-top, top)
};

void run(const Softmax& p) {
  SCOPED_TRACE(::testing::Message() << p.classes << " classes, " << size_of(p.type) << " to "
                                    << size_of(p.gradient) << " bytes, up to " << p.top);
  const int n = 6, classes = p.classes, width = round_up_8(classes);
  Field logits = Field::random(p.type, n, 1, 1, width, classes, -p.top, p.top);
  Buffer labels(n * 4), ranks(n * 4);
  std::vector<std::int32_t> label(n), rank(n);
  for (int i = 0; i < n; ++i) label[i] = (i * 37 + 3) % classes;
  logits.values[label[0] - 1] = logits.values[label[0]];  // a tie ahead of the label, and behind
  logits.values[width + label[1] + 1] = logits.values[width + label[1]];
  logits.values[5 * width + label[5]] = std::nan("");
  for (int r = 0; r < n; ++r)  // no column beyond the classes is looked at
    for (int j = classes; j < width; ++j) logits.values[r * width + j] = 1e4;
  logits.upload();
  cuda_ok(cudaMemcpy(labels.data(), label.data(), n * 4, cudaMemcpyHostToDevice));
  const Field loss(DType::f32, n, 1, 1, 1);
  const Field dlogits(p.gradient, n, 1, 1, width);
  kernels::cuda::softmax_xent(
      gpu(), {logits.tensor(), classes, static_cast<std::int32_t*>(labels.data()), p.smoothing,
              loss.f32(), static_cast<std::int32_t*>(ranks.data()), dlogits.tensor()});
  cuda_ok(cudaMemcpy(rank.data(), ranks.data(), n * 4, cudaMemcpyDeviceToHost));
  EXPECT_EQ(rank[5], classes);
  EXPECT_TRUE(std::isnan(loss.download()[5]));
  for (int j = 0; j < width; ++j) {
    EXPECT_EQ(std::isnan(dlogits.download()[5 * width + j]), j < classes) << j;
  }
  Values want_loss, want;
  const double smoothing = p.smoothing;
  for (int r = 0; r < 5; ++r) {
    const double* row = &logits.values[r * width];
    double sum = 0, entropy = 0;
    int ahead = 0;
    for (int j = 0; j < classes; ++j) sum += std::exp(row[j]);
    for (int j = 0; j < width; ++j) {
      if (j >= classes) {
        want.push_back(0);
        continue;
      }
      const double target = (j == label[r] ? 1 - smoothing : 0) + smoothing / classes;
      entropy -= target * (row[j] - std::log(sum));
      want.push_back((std::exp(row[j]) / sum - target) / n);
      ahead += row[j] > row[label[r]] || (row[j] == row[label[r]] && j < label[r]);
    }
    want_loss.push_back(entropy);
    EXPECT_EQ(rank[r], ahead);
  }
  Values got_loss = loss.download(), got = dlogits.download();
  got_loss.resize(5);
  got.resize(5 * width);
  EXPECT_LT(relative_error(got_loss, want_loss), 1e-6);
  EXPECT_LT(relative_error(got, want), limit(p.gradient));
  for (int r = 0; r < 5; ++r)
    for (int j = classes; j < width; ++j) EXPECT_EQ(got[r * width + j], 0);
}

TEST(CudaSoftmax, LossGradientAndRank) {
  for (const int classes : {10, 101, 1000}) {
    for (const DType type : kTypes)
      for (const DType gradient : kTypes) run({type, gradient, classes});
    run({DType::f32, DType::f32, classes, 0, 60});
  }
}

/// One image of eight classes, label 1.
struct OneImage {
  Field logits{DType::f32, 1, 1, 1, 8}, loss{DType::f32, 1, 1, 1, 1};
  Buffer label{4}, rank{4};

  explicit OneImage(const Values& values) {
    logits.values = values;
    logits.upload();
    const std::int32_t one = 1;
    cuda_ok(cudaMemcpy(label.data(), &one, 4, cudaMemcpyHostToDevice));
  }
  kernels::SoftmaxXent args() const {
    return {logits.tensor(),
            8,
            static_cast<std::int32_t*>(label.data()),
            0,
            loss.f32(),
            static_cast<std::int32_t*>(rank.data()),
            {}};
  }
};

TEST(CudaSoftmax, SmallLossOfLargeLogits) {
  const OneImage x({90, 100, 0, -INFINITY, 0, 0, 0, 0});
  kernels::cuda::softmax_xent(gpu(), x.args());
  EXPECT_NEAR(x.loss.download()[0], std::log1p(std::exp(-10.0)), 1e-7);
}

TEST(CudaSoftmax, GradientMayLieOverLogitsOfItsType) {
  const OneImage x({1, 2, 0, 0, 0, 0, 0, 0});
  kernels::SoftmaxXent args = x.args();
  args.dlogits = x.logits.tensor();
  kernels::cuda::softmax_xent(gpu(), args);
  const double sum = std::exp(1.0) + std::exp(2.0) + 6;
  EXPECT_NEAR(x.logits.download()[0], std::exp(1.0) / sum, 1e-6);
  EXPECT_NEAR(x.logits.download()[1], std::exp(2.0) / sum - 1, 1e-6);
  args.dlogits.type = DType::bf16;
  EXPECT_THROW(kernels::cuda::softmax_xent(gpu(), args), Error);
}

TEST(CudaUpdate, RmsPropSgdAddAndMeans) {
  for (const int size : {1, 7, 4096, 100003}) {
    const Field grad = Field::channels(size, 1);
    Field w = Field::channels(size, 2), ms = Field::channels(size, 3, 0.5, 1),
          mom = Field::channels(size, 4), shadow(DType::bf16, 1, 1, 1, size);
    kernels::RmsProp rms{static_cast<std::size_t>(size),
                         grad.f32(),
                         w.f32(),
                         ms.f32(),
                         mom.f32(),
                         0.5f,
                         0.1f,
                         0.9f,
                         0.8f,
                         1e-3f,
                         shadow.tensor().data};
    kernels::cuda::rms_prop(gpu(), rms);
    Values want_w(size), want_ms(size), want_mom(size);
    for (int i = 0; i < size; ++i) {
      const double g = 0.5 * grad.values[i];
      want_ms[i] = 0.9 * ms.values[i] + 0.1 * g * g;
      want_mom[i] = 0.8 * mom.values[i] + 0.1 * g / std::sqrt(want_ms[i] + 1e-3);
      want_w[i] = w.values[i] - want_mom[i];
    }
    expect_near(ms, want_ms, 1e-6, "ms");
    expect_near(mom, want_mom, 1e-6, "mom");
    expect_near(w, want_w, 1e-6, "w");
    const auto expect_shadow = [&] {
      Values rounded = w.download();
      for (double& v : rounded) v = from_bf16(to_bf16(v));
      EXPECT_EQ(shadow.download(), rounded);
    };
    expect_shadow();

    w.upload();
    mom.upload();
    kernels::cuda::sgd(gpu(), {static_cast<std::size_t>(size), grad.f32(), w.f32(), mom.f32(), 0.5f,
                               0.1f, 0.8f, 0.01f, shadow.tensor().data});
    for (int i = 0; i < size; ++i) {
      want_mom[i] = 0.8 * mom.values[i] + 0.5 * grad.values[i] + 0.01 * w.values[i];
      want_w[i] = w.values[i] - 0.1 * want_mom[i];
    }
    expect_near(mom, want_mom, 1e-6, "mom");
    expect_near(w, want_w, 1e-6, "w");
    expect_shadow();

    w.upload();
    kernels::cuda::add(gpu(), {static_cast<std::size_t>(size), w.f32(), grad.f32()});
    for (int i = 0; i < size; ++i) want_w[i] = w.values[i] + grad.values[i];
    expect_near(w, want_w, 1e-6, "add");

    w.upload();
    kernels::cuda::average(gpu(), {static_cast<std::size_t>(size), grad.f32(), w.f32(), 0.7f});
    for (int i = 0; i < size; ++i) want_w[i] = 0.7 * w.values[i] + 0.3 * grad.values[i];
    expect_near(w, want_w, 1e-6, "average");

    kernels::cuda::shard_mean(gpu(), {static_cast<std::size_t>(size), 3, grad.f32(), w.f32()});
    for (int i = 0; i < size; ++i) want_w[i] = grad.values[i] / 3;
    expect_near(w, want_w, 1e-6, "mean over shards");
  }
}

}  // namespace
}  // namespace tunas::testing
