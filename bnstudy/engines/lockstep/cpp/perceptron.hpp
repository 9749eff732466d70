// Multilayer perceptron: linear layers from the pixels on.
#pragma once

#include "network.hpp"

namespace lockstep {

struct Perceptron final : Network {
  explicit Perceptron(const Spec& from) : Network(from, 0) {}

  V* lay_out_features(Arena& from) override { return from.take<V>(images() * numbers); }
  Size features() const override { return numbers; }
  bool learns_features() const override { return unfused[0].count; }

  bool forward_features(int n, bool, const Normalization*) override {
    for (int i = 0; i < n; ++i) scale(i, unfused[0].in + i * numbers);
    return true;
  }
  void backward_features(int, V*, const Sgd&) override {}  // pixels learn nothing
};

}  // namespace lockstep
