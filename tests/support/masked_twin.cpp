#include "tests/support/masked_twin.h"

#include <functional>
#include <memory>
#include <stdexcept>

#include "tests/support/reference_small.h"

namespace tunas::test {
namespace {

using reference::Shape;
using search::LayerKind;
using search::PlanLayer;

struct Node {
  Shape shape;
  Values value, grad;
};
using Var = std::shared_ptr<Node>;

struct Term {
  double mask;
  Var x;
};

Values prefix_mask(Width width) {
  Values mask(width.max, 0.0);
  std::fill_n(mask.begin(), width.now, 1.0);
  return mask;
}

void add_to(Values& sum, const Values& values) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
}

/// The operations and their gradients; a tape of closures, walked from its end.
class Tape {
 public:
  Tape(const Weights& weights, const TwinConfig& config) : weights_(weights), config_(config) {
    for (const auto& [name, values] : weights) gradients[name] = Values(values.size(), 0.0);
  }

  Var node(Shape shape, Values value) {
    return std::make_shared<Node>(Node{shape, std::move(value), Values(shape.size(), 0.0)});
  }

  /// k x k convolution of the images; its gradient stops here.
  Var stem(const Values& images, Shape in, const std::string& path, const PlanLayer& layer, int k,
           double decay) {
    const Values out_mask = prefix_mask(layer.c_out);
    reference::Window window = this->window(in.h, k, layer.spec->stride);
    window.top = -window.top;  // conv counts inwards from the image's corner
    window.left = -window.left;
    const long row = 4L * k * k;
    const Values& kernel = weight(path + "/kernel", layer.c_out.max * row);
    const auto masked = [=](Values w) {
      for (std::size_t i = 0; i < w.size(); ++i) w[i] *= out_mask[i / row];
      return w;
    };
    const Var y = node({in.n, window.out_h, window.out_w, layer.c_out.max},
                       reference::conv(images, in, masked(kernel), layer.c_out.max, window));
    push([=, this, &images, &kernel] {
      Values dw = reference::conv_backward(y->grad, images, in, y->shape.c, window);
      for (std::size_t i = 0; i < dw.size(); ++i) dw[i] += decay * kernel[i];
      add_to(gradients[path + "/kernel"], masked(dw));
    });
    return y;
  }

  /// Both sides masked; the bias, where there is one, too.
  Var pointwise(const Var& x, const std::string& path, Width in, Width out, bool bias,
                double decay) {
    const Values in_mask = prefix_mask(in), out_mask = prefix_mask(out);
    const Values& kernel = weight(path + "/kernel", long{in.max} * out.max);
    const auto masked = [=](Values w) {
      for (std::size_t i = 0; i < w.size(); ++i) w[i] *= out_mask[i / in.max] * in_mask[i % in.max];
      return w;
    };
    Values b;
    if (bias) b = weight(path + "/bias", out.max);
    for (std::size_t o = 0; o < b.size(); ++o) b[o] *= out_mask[o];
    const Values w = masked(kernel);
    const Var y = node({x->shape.n, x->shape.h, x->shape.w, out.max},
                       reference::pointwise(x->value, w, b, in.max, out.max));
    push([=, this, &kernel] {
      auto grad = reference::pointwise_backward(y->grad, x->value, w, in.max, out.max);
      add_to(x->grad, grad.du);
      for (std::size_t i = 0; i < grad.dw.size(); ++i) grad.dw[i] += decay * kernel[i];
      add_to(gradients[path + "/kernel"], masked(grad.dw));
      for (std::size_t o = 0; o < grad.dbias.size(); ++o) grad.dbias[o] *= out_mask[o];
      if (bias) add_to(gradients[path + "/bias"], grad.dbias);
    });
    return y;
  }

  Var depthwise(const Var& x, const std::string& path, Width c, int k, int stride, double decay) {
    const Values mask = prefix_mask(c);
    const reference::Window window = this->window(x->shape.h, k, stride);
    const Values& kernel = weight(path + "/kernel", long{k} * k * c.max);
    const auto masked = [=](Values w) {
      for (std::size_t i = 0; i < w.size(); ++i) w[i] *= mask[i % c.max];
      return w;
    };
    const Values w = masked(kernel);
    const Var y = node({x->shape.n, window.out_h, window.out_w, c.max},
                       reference::depthwise(x->value, x->shape, w, window));
    push([=, this, &kernel] {
      auto grad = reference::depthwise_backward(y->grad, x->value, x->shape, w, window);
      add_to(x->grad, grad.du);
      for (std::size_t i = 0; i < grad.dw.size(); ++i) grad.dw[i] += decay * kernel[i];
      add_to(gradients[path + "/kernel"], masked(grad.dw));
    });
    return y;
  }

  /// Batch normalisation over all channels, its result multiplied by the mask.
  Var norm(const Var& x, const std::string& path, Width c) {
    const Values mask = prefix_mask(c);
    const reference::Moments moments = reference::moments(x->value, c.max);
    const reference::Norm norm =
        reference::norm(weight(path + "/norm/gamma", c.max), weight(path + "/norm/beta", c.max),
                        moments, config_.epsilon);
    const reference::Source source{x->shape, x->value, norm.scale, norm.shift, Act::none, {}};
    const auto masked = [=](Values values) {
      for (std::size_t i = 0; i < values.size(); ++i) values[i] *= mask[i % c.max];
      return values;
    };
    const Var y = node(x->shape, masked(reference::normalised(source)));
    push([=, this] {
      const auto sums = reference::source_grad(source, masked(y->grad), moments.mean, norm.inv_std);
      const auto back = reference::norm_backward(norm, moments.mean, sums, x->shape.rows());
      add_to(x->grad, reference::incoming({sums.dz, x->value, back.ca, back.cb, back.cc}));
      add_to(gradients[path + "/norm/gamma"], sums.sum_dz_xhat);
      add_to(gradients[path + "/norm/beta"], sums.sum_dz);
    });
    return y;
  }

  Var act(const Var& x, Act kind) {
    Values value = x->value;
    for (double& v : value) v = reference::activate(kind, v);
    const Var y = node(x->shape, std::move(value));
    push([=] {
      for (std::size_t i = 0; i < y->grad.size(); ++i) {
        x->grad[i] += y->grad[i] * reference::activate_grad(kind, x->value[i]);
      }
    });
    return y;
  }

  /// sum_t mask_t * x_t
  Var mix(const std::vector<Term>& terms) {
    const Var y = node(terms[0].x->shape, Values(terms[0].x->value.size(), 0.0));
    for (const Term& term : terms) {
      for (std::size_t i = 0; i < y->value.size(); ++i) {
        y->value[i] += term.mask * term.x->value[i];
      }
    }
    push([=] {
      for (const Term& term : terms) {
        for (std::size_t i = 0; i < y->grad.size(); ++i) {
          term.x->grad[i] += term.mask * y->grad[i];
        }
      }
    });
    return y;
  }

  /// x times a gate of one value per image and channel
  Var scale(const Var& x, const Var& gate) {
    const reference::Source source{x->shape, x->value, {}, {}, Act::none, gate->value};
    const Var y = node(x->shape, reference::read(source));
    push([=] {
      const reference::SourceGrad grad = reference::source_grad(source, y->grad, {}, {});
      add_to(x->grad, grad.dz);
      add_to(gate->grad, grad.dgate);
    });
    return y;
  }

  Var pool(const Var& x) {
    const Var y = node({x->shape.n, 1, 1, x->shape.c}, reference::pool(x->value, x->shape));
    push([=] { add_to(x->grad, reference::pool_backward(y->grad, x->shape)); });
    return y;
  }

  void backward() {
    for (; !closures_.empty(); closures_.pop_back()) closures_.back()();
  }

  Weights gradients;

 private:
  reference::Window window(int in, int k, int stride) const {
    const Axis axis = pad_axis(config_.padding, in, k, stride);
    return {k, stride, axis.before, axis.before, axis.out, axis.out};
  }

  const Values& weight(const std::string& name, long size) const {
    const auto found = weights_.find(name);
    if (found == weights_.end()) throw std::out_of_range("masked_twin: no weight " + name);
    if (static_cast<long>(found->second.size()) != size) {
      throw std::invalid_argument("masked_twin: " + name + " has " +
                                  std::to_string(found->second.size()) + " elements, not " +
                                  std::to_string(size));
    }
    return found->second;
  }

  void push(std::function<void()> closure) { closures_.push_back(std::move(closure)); }

  const Weights& weights_;
  const TwinConfig& config_;
  std::vector<std::function<void()>> closures_;
};

/// One layer of the plan after the other, with the masks of its decisions.
class Twin {
 public:
  Twin(Tape& tape, const TwinConfig& config) : tape_(tape), config_(config) {}

  Var stem(const Values& images, Shape in, const PlanLayer& layer) {
    std::vector<Term> options;
    for (const search::KernelChoice& choice : layer.kernels) {
      const std::string at = path(layer) + "/conv_" + std::to_string(choice.k);
      const Var y =
          tape_.stem(images, in, at, layer, choice.k, config_.weight_decay * choice.weight);
      options.push_back({choice.weight, tape_.norm(y, at, layer.c_out)});
    }
    return tape_.mix(options);
  }

  Var layer(const Var& x, const PlanLayer& layer) {
    switch (layer.spec->kind) {
      case LayerKind::activation:
        return tape_.act(x, layer.spec->act);
      case LayerKind::global_pool:
        return tape_.pool(x);
      case LayerKind::endpoint:
        return x;
      case LayerKind::conv:
        return residual(x, layer, [&] { return conv(x, layer); });
      case LayerKind::separable:
        return residual(x, layer, [&] { return separable(x, layer); });
      case LayerKind::bottleneck:
        return residual(x, layer, [&] { return bottleneck(x, layer); });
    }
    throw std::invalid_argument("masked_twin: unknown kind of layer");
  }

 private:
  static std::string path(const PlanLayer& layer) {
    return "blocks/" + std::to_string(layer.block) + "/layers/" + std::to_string(layer.layer);
  }

  /// keep/skip between inner(x) and zero, then + x; a skipped inner layer is not run.
  template <class Inner>
  Var residual(const Var& x, const PlanLayer& layer, const Inner& inner) {
    if (layer.keep == 0) return x;
    if (!layer.spec->residual) return tape_.mix({{layer.keep, inner()}});
    return tape_.mix({{layer.keep, inner()}, {1, x}});
  }

  Var pointwise_norm(const Var& x, const std::string& at, Width in, Width out, double mask) {
    return tape_.norm(tape_.pointwise(x, at, in, out, false, config_.weight_decay * mask), at, out);
  }

  /// One kernel-size option: depthwise, norm, activation.
  Var depthwise(const Var& x, const PlanLayer& layer, Width c, const search::KernelChoice& choice) {
    const std::string at = path(layer) + "/depthwise_" + std::to_string(choice.k);
    const double decay = config_.weight_decay * layer.keep * choice.weight;
    const Var y = tape_.depthwise(x, at, c, choice.k, layer.spec->stride, decay);
    return tape_.act(tape_.norm(y, at, c), layer.spec->act);
  }

  Var conv(const Var& x, const PlanLayer& layer) {
    const std::string at = path(layer) + "/conv_1";
    if (layer.spec->batch_norm) return pointwise_norm(x, at, layer.c_in, layer.c_out, layer.keep);
    return tape_.pointwise(x, at, layer.c_in, layer.c_out, true, config_.weight_decay * layer.keep);
  }

  Var separable(const Var& x, const PlanLayer& layer) {
    std::vector<Term> options;
    for (const search::KernelChoice& choice : layer.kernels) {
      Var y = depthwise(x, layer, layer.c_in, choice);
      if (!layer.spec->shared_pointwise) {
        y = pointwise_norm(y, path(layer) + "/project_" + std::to_string(choice.k), layer.c_in,
                           layer.c_out, layer.keep * choice.weight);
      }
      options.push_back({choice.weight, y});
    }
    const Var y = tape_.mix(options);
    if (!layer.spec->shared_pointwise) return y;
    return pointwise_norm(y, path(layer) + "/project", layer.c_in, layer.c_out, layer.keep);
  }

  Var bottleneck(const Var& x, const PlanLayer& layer) {
    const Var expanded =
        tape_.act(pointwise_norm(x, path(layer) + "/expand", layer.c_in, layer.c_exp, layer.keep),
                  layer.spec->act);
    std::vector<Term> options;
    for (const search::KernelChoice& choice : layer.kernels) {
      options.push_back({choice.weight, depthwise(expanded, layer, layer.c_exp, choice)});
    }
    Var y = tape_.mix(options);
    if (layer.squeeze_excite > 0) {
      y = tape_.mix({{1 - layer.squeeze_excite, y}, {layer.squeeze_excite, squeezed(y, layer)}});
    }
    return pointwise_norm(y, path(layer) + "/project", layer.c_exp, layer.c_out, layer.keep);
  }

  /// y * gate(W2 relu(W1 mean(y) + b1) + b2)
  Var squeezed(const Var& y, const PlanLayer& layer) {
    const std::string at = path(layer) + "/squeeze_excite";
    const double decay = config_.weight_decay * layer.keep * layer.squeeze_excite;
    const Var reduced =
        tape_.pointwise(tape_.pool(y), at + "/reduce", layer.c_exp, layer.c_hidden, true, decay);
    const Var expanded = tape_.pointwise(tape_.act(reduced, Act::relu), at + "/expand",
                                         layer.c_hidden, layer.c_exp, true, decay);
    return tape_.scale(y, tape_.act(expanded, layer.spec->gate));
  }

  Tape& tape_;
  const TwinConfig& config_;
};

}  // namespace

TwinResult masked_twin(const search::Plan& plan, const Weights& weights, const Values& images,
                       const std::vector<std::int32_t>& labels, const TwinConfig& config) {
  Tape tape(weights, config);
  Twin twin(tape, config);
  const int side = plan.layers.at(0).in_resolution;
  const Shape in{static_cast<int>(labels.size()), side, side, 4};
  if (static_cast<long>(images.size()) != in.size()) {
    throw std::invalid_argument("masked_twin: the images are not [n][R][R][4] of this plan");
  }
  Var x = twin.stem(images, in, plan.layers[0]);
  for (std::size_t i = 1; i < plan.layers.size(); ++i) x = twin.layer(x, plan.layers[i]);
  const Var logits =
      tape.pointwise(x, "classifier", plan.c_head, {plan.classes, plan.classes}, true, 0);
  const reference::Loss loss =
      reference::softmax_xent(logits->value, plan.classes, labels, config.smoothing);
  TwinResult result;
  result.logits = logits->value;
  for (double value : loss.loss) result.loss += value / static_cast<double>(labels.size());
  logits->grad = loss.dlogits;
  tape.backward();
  result.gradients = std::move(tape.gradients);
  return result;
}

}  // namespace tunas::test
