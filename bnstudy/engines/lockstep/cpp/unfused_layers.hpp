// The layers between two layers with weights, outside of convolution blocks: normalization,
// activation and dropout in any order, each of them a pass over [N][UNITS] of V.
#pragma once

#include "normalization.hpp"

namespace lockstep {

enum OpKind { NORMALIZE, ACTIVATE, DROP };

struct Op {
  OpKind kind;
  V* out;      // [N][UNITS]
  Normalization* norm;  // of NORMALIZE
  V* keep;     // of DROP: [N][UNITS], 0 or 1 / (1 - rate)
};

struct UnfusedLayers {
  int activation, count;
  Size units;
  V* in;  // [N][UNITS]
  Op ops[3];

  V* input_of(int k) const { return k == 0 ? in : ops[k - 1].out; }
  V* out() const { return input_of(count); }

  // Stops at the normalization layer whose moments are `wanted` and returns false, else true
  bool forward(int images, bool training, I active, const Normalization* wanted) const {
    const Size size = images * units;
    for (int k = 0; k < count; ++k) {
      const V* x = input_of(k);
      V* out = ops[k].out;
      if (ops[k].kind == ACTIVATE)
        with_activation(activation,
                        [=](auto act) { activate<decltype(act)::value>(x, out, size); });
      if (ops[k].kind == DROP)
        for (Size j = 0; j < size; ++j) out[j] = training ? x[j] * ops[k].keep[j] : x[j];
      if (ops[k].kind == NORMALIZE) {
        Normalization& norm = *ops[k].norm;
        const bool own = norm.takes_moments(training);
        if (own) norm.reset(norm.subbatches_of(images));
        for (int n = 0; n < images && (own || wanted == &norm); ++n)
          norm.add_image(n, x + n * units);
        if (wanted == &norm) return false;
        if (own) norm.finish_moments(active);
        norm.forward(x, out, images);
      }
    }
    return true;
  }

  // Turns the gradient by out() into that by `in`, in place
  void backward(V* gradient, int images, const Sgd& sgd) const {
    const Size size = images * units;
    for (int k = count - 1; k >= 0; --k) {
      const V* out = ops[k].out;
      if (ops[k].kind == ACTIVATE)
        with_activation(activation, [=](auto act) {
          for (Size j = 0; j < size; ++j) gradient[j] *= slope<decltype(act)::value>(out[j]);
        });
      if (ops[k].kind == DROP)
        for (Size j = 0; j < size; ++j) gradient[j] *= ops[k].keep[j];
      if (ops[k].kind == NORMALIZE) ops[k].norm->backward(input_of(k), gradient, images, sgd);
    }
  }
};

}  // namespace lockstep
