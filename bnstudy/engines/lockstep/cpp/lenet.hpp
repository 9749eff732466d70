// LeNet: two convolution blocks, whose output the linear layers read.
#pragma once

#include "convolution_block.hpp"
#include "network.hpp"

namespace lockstep {

template <int ACT, int NORM> struct LeNet final : Network {
  static constexpr int SIDE = 28, PIXELS = SIDE * SIDE;
  Normalization absent[2];  // of the blocks
  ConvolutionBlock<ACT, NORM, 1, 6, SIDE, tile(3, 2), 6> block1;
  ConvolutionBlock<ACT, NORM, 6, 16, 12, tile(2, 1), 8> block2;
  V* x;  // [28][28], of one image

  explicit LeNet(const Spec& from) : Network(from, 2) {}

  // Memory and structure ----------------------------------------------------------------

  Normalization* add_absent(Arena& from, Normalization& to, int channels) const {
    to.kind = ABSENT, to.channels = channels, to.subbatches = 1;
    to.channel = from.take<ChannelCoefficients>(channels);
    return &to;
  }

  template <typename S> void lay_out_block(Arena& from, S& block, int layer) {
    const Size n = images();
    constexpr int CHANNELS = S::VALUES / S::SIDE / S::SIDE;
    block.w = w[layer] = parameter(from, S::WEIGHTS);
    block.b = b[layer] = parameter(from, CHANNELS);
    block.dw = from.take<V>(S::WEIGHTS), block.db = from.take<V>(CHANNELS);
    block.z = from.take<V>(n * S::VALUES), block.p = from.take<V>(n * S::CELLS);
    block.dz = from.take<V>(S::VALUES);
    block.norm = nullptr;
    absent[layer] = Normalization{};
    if (NORM == NO_NORM) return;
    block.slopes = from.take<V>(n * S::CELLS), block.slopes_xhat = from.take<V>(n * S::CELLS);
    block.norm = normed(layer) ? add_norm(from, CHANNELS, S::SIDE * S::SIDE)
                               : add_absent(from, absent[layer], CHANNELS);
  }

  V* lay_out_features(Arena& from) override {
    x = from.take<V>(PIXELS);
    const bool normed_images = normed(0) && spec.placement == AT_INPUT;
    lay_out_unfused(from, 0, 1, PIXELS,
                    normed_images ? from.take<V>(images() * PIXELS) : nullptr);
    lay_out_block(from, block1, 0);
    lay_out_unfused(from, 1, 6, block1.HALF * block1.HALF, block1.p);
    lay_out_block(from, block2, 1);
    return block2.p;
  }

  Size features() const override { return block2.CELLS; }
  bool learns_features() const override { return true; }

  void set_constants() override {
    for (Normalization& each : absent)
      for (int c = 0; c < each.channels; ++c) each.channel[c] = ChannelCoefficients::identity();
  }

  // Forward -----------------------------------------------------------------------------

  const V* image(int n) const {
    if (unfused[0].count) return unfused[0].out() + Size(n) * PIXELS;
    scale(n, x);
    return x;
  }

  V* input2(int n) const { return unfused[1].out() + Size(n) * block2.INPUTS; }

  bool forward_features(int n, bool training, const Normalization* wanted) override {
    return training ? forward_blocks<true>(n, nullptr) : forward_blocks<false>(n, wanted);
  }

  // A block that takes no moments of the whole batch passes image after image, which stay in the
  // cache; else all images go through the convolution before the first goes on.
  template <bool TRAINING> bool forward_blocks(int n, const Normalization* wanted) {
    Normalization *norm1 = block1.norm, *norm2 = block2.norm;
    const bool own1 = norm1 && norm1->takes_moments(TRAINING);
    const bool own2 = norm2 && norm2->takes_moments(TRAINING);
    const bool wanted1 = wanted && wanted == norm1, wanted2 = wanted && wanted == norm2;
    block1.keeps_images = TRAINING || own1, block2.keeps_images = TRAINING || own2;
    const auto pool2 = [&](int i) { block2.template pool<TRAINING>(i); };
    const auto second = [&](int i) {
      block2.forward(input2(i), i, own2 || wanted2);
      if (!own2) pool2(i);
    };
    const auto pool1 = [&](int i) {
      block1.template pool<TRAINING>(i);
      if (!unfused[1].count) second(i);
    };

    for (int i = 0; i < n && unfused[0].count; ++i) scale(i, unfused[0].in + Size(i) * PIXELS);
    if (!pass(0, n, TRAINING, wanted)) return false;
    if (own1) norm1->reset(norm1->subbatches_of(n));
    if (own2) norm2->reset(norm2->subbatches_of(n));
    for (int i = 0; i < n; ++i) {
      block1.forward(image(i), i, own1 || wanted1);
      if (!own1 && !wanted1) pool1(i);
    }
    if (wanted1) return false;
    if (own1) norm1->finish_moments(active);
    for (int i = n - 1; i >= 0 && own1; --i) pool1(i);  // the last images are still in the cache
    if (!pass(1, n, TRAINING, wanted)) return false;
    for (int i = 0; i < n && unfused[1].count; ++i) second(i);
    if (wanted2) return false;
    if (own2) norm2->finish_moments(active);
    for (int i = 0; i < n && own2; ++i) pool2(i);
    return true;
  }

  // Backward ----------------------------------------------------------------------------

  void backward_features(int n, V* by_features, const Sgd& sgd) override {
    const auto dp2 = [&](int i) { return by_features + Size(i) * block2.CELLS; };
    const bool norm1 = block1.norm && block1.norm->takes_moments(true);
    const bool norm2 = block2.norm && block2.norm->takes_moments(true);
    block1.reset_gradients();
    block2.reset_gradients();
    for (int i = 0; i < n && norm2; ++i) block2.add_gradient(i, dp2(i));
    if (norm2) block2.norm->finish_gradient(sgd);
    for (int i = 0; i < n; ++i) {
      block2.template backward<8, tile(4, 2)>(i, input2(i), dp2(i));
      block2.input_gradient(input2(i));  // overwrites the input, which is no longer needed
      if (norm1) block1.add_gradient(i, input2(i));
    }
    unfused[1].backward(unfused[1].out(), n, sgd);
    if (norm1) block1.norm->finish_gradient(sgd);
    for (int i = n - 1; i >= 0; --i) {
      block1.template backward<2, tile(3, 2)>(i, image(i), input2(i));
      if (unfused[0].count) block1.input_gradient(unfused[0].out() + Size(i) * PIXELS);
    }
    unfused[0].backward(unfused[0].out(), n, sgd);
    block1.step(sgd, spec.bias);
    block2.step(sgd, spec.bias);
  }
};

}  // namespace lockstep
