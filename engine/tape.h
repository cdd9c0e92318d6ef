// Tape: the closures of a forward pass in the order things happened; backward walks it from the
// end. Values and gradients live in an Arena; backward returns the memory of each op as it passes.
//
// Convention of gradients: grad_slot hands out storage and says overwrite the first time,
// accumulate afterwards; so nothing is zeroed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "engine/arena.h"
#include "engine/closures.h"
#include "engine/gradient_memory.h"
#include "engine/param.h"
#include "engine/range.h"
#include "engine/var.h"
#include "kernels/source.h"
#include "kernels/stream.h"

namespace tunas::engine {

class Tape {
 public:
  Tape(Stream stream, Arena& arena, ParamStore& params, DType type = DType::f32);

  /// Forgets everything: start of a pass.
  void reset(Pass pass);
  Pass pass() const { return pass_; }
  bool recording() const { return pass_ == Pass::train; }
  Stream stream() const { return stream_; }
  ParamStore& params() const { return *params_; }

  /// Where normalisations leave the smallest offset of one that is not finite (kernels/norm.h).
  void watch(std::uint32_t* origin) { origin_ = origin; }
  std::uint32_t* origin() const { return origin_; }  // null: nowhere

  enum class Gradient : unsigned char { wanted, none };
  /// A new activation, uninitialised.
  Var activation(int n, int h, int w, int c, Gradient gradient = Gradient::wanted);
  /// A new tensor that is float on every device (statistics, gates).
  Var floats(int n, int h, int w, int c, Gradient gradient = Gradient::none);
  /// An activation of this shape that takes no memory before store() does: its readers may do
  /// without it.
  Var unstored(int n, int h, int w, int c);
  Tensor store(Var v);
  /// Floats whose gradient has the type of activations: bf16 would round them before the softmax.
  Var logits(int n, int c);

  Tensor value(Var v) const { return nodes_[static_cast<std::size_t>(v.id)].value; }
  /// The gradient, or an empty tensor where nobody has written one.
  Tensor grad(Var v) const { return nodes_[static_cast<std::size_t>(v.id)].grad; }
  struct Slot {
    Tensor grad;  // empty: no gradient is wanted
    Write how = Write::overwrite;
  };
  Slot grad_slot(Var v);
  /// The gradient of `to`, of which there is none yet, is that of `from`: the same memory, until
  /// somebody adds to it while the other is still to be read.
  void share_grad(Var to, Var from);

  /// Memory for a gradient that is made of the one that v has, and is nobody else's: the same, or
  /// where others share that, which then is theirs alone, new memory. Nothing is deferred any more.
  Tensor replace_grad(Var v);

  /// Counts who reads v in forward; in backward the same readers come again.
  void read(Var v) { nodes_[static_cast<std::size_t>(v.id)].readers += forward_; }
  int readers(Var v) const { return nodes_[static_cast<std::size_t>(v.id)].readers; }

  /// What a reader leaves of a gradient for others to finish: for the convolution that made v, on
  /// load (kernels::Deferred), or for the next reader of v to add to (kernels::Addend), which then
  /// takes the sums of both. `spread` belongs to v from then on.
  struct Deferral {
    enum class To : unsigned char { convolution, next_reader };
    float weight = 1;
    Act act = Act::none;
    Tensor spread = {};  // [n][1][1][c] floats; empty: none
    To to = To::convolution;
  };
  const Deferral& defer(Var v, const Deferral& left);
  const Deferral* deferral(Var v) const {  // null: none
    const std::optional<Deferral>& left = nodes_[static_cast<std::size_t>(v.id)].deferral;
    return left ? &*left : nullptr;
  }
  /// Floats that a gradient needs beside itself, in backward; for defer() to take.
  Tensor gradient_floats(int n, int h, int w, int c);
  bool has_grad(Var v) const { return grad(v) || deferral(v); }

  /// Records `closure(Tape&)`, which may capture trivially destructible values only.
  template <class Closure>
  void push(Closure closure) {
    if (recording()) closures_.push(closure, layer_);
  }
  /// Runs the closures from the end. Seeding the gradient of the loss is the loss op's closure.
  void backward();

  /// What is called and recorded during its life belongs to a layer; a closure takes it along. The
  /// name must outlive the pass.
  class Layer {
   public:
    Layer(Tape& tape, const char* name)
        : tape_(tape), outer_(tape.layer_), range_(tape.stream_, &Observer::layer, name) {
      tape.layer_ = name;
    }
    Layer(const Layer&) = delete;
    Layer& operator=(const Layer&) = delete;
    ~Layer() { tape_.layer_ = outer_; }

   private:
    Tape& tape_;
    const char* outer_;
    Range range_;
  };

  /// Position to release from in passes that record nothing: frees every value made since `from`
  /// except `keep`.
  int mark() const { return static_cast<int>(nodes_.size()); }
  void release(int from, std::initializer_list<Var> keep);

 private:
  struct Node {
    Tensor value, grad;
    Gradient gradient = Gradient::none;
    DType grad_type = DType::f32;
    int born = 0;  // closures on the tape when it was made
    std::optional<Deferral> deferral = {};
    int readers = 0;
  };
  Var make(Tensor shape, Gradient gradient, DType grad_type);
  void drop(Node& node);

  Stream stream_;
  Arena* arena_;
  ParamStore* params_;
  std::uint32_t* origin_ = nullptr;
  DType type_;
  Pass pass_ = Pass::train;
  bool forward_ = true;
  const char* layer_ = "";
  std::vector<Node> nodes_;
  Closures<Tape> closures_;
  GradientMemory gradients_;
};

}  // namespace tunas::engine
