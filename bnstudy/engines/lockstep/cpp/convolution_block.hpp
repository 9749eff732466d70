// A block of the network: convolution, then normalization and activation, then 2 x 2
// average pooling.
//
// The convolution writes z for every image of the batch.  When the moments are known, one
// pass over z normalizes, activates and pools.  It also pools the terms of the backward pass
// that contain the activation's slope: as every pixel of a 2 x 2 cell has the same gradient dp / 4,
//
//   sum of dy       = sum over cells of dp * slopes,       slopes      = sum of a'(y) / 4
//   sum of dy x_hat = sum over cells of dp * slopes_xhat,  slopes_xhat = sum of a'(y) x_hat / 4
//
// so the two sums that dz needs cost no other pass over z, which is four times as large.
#pragma once

#include "convolution.hpp"
#include "normalization.hpp"

namespace lockstep {

// Where the blocks are normalized: not at all, before or after the activation.  A block
// without normalization beside one that has it gets an ABSENT one, the identity.
enum NormPosition { NO_NORM, BEFORE_ACTIVATION, AFTER_ACTIVATION };

template <int ACT, int NORM, int IN, int OUT, int SIZE, int BLOCK, int PIXELS>
struct ConvolutionBlock {
  static constexpr int SIDE = SIZE - 4, HALF = SIDE / 2;
  static constexpr int INPUTS = IN * SIZE * SIZE, VALUES = OUT * SIDE * SIDE;
  static constexpr int CELLS = OUT * HALF * HALF, WEIGHTS = OUT * IN * 25;

  Parameter w, b;           // [OUT][IN][5][5], [OUT]
  V *dw, *db;               // their gradients
  V* z;                     // [N][OUT][SIDE][SIDE]; activated in place unless BEFORE_ACTIVATION
  V* p;                     // [N][OUT][HALF][HALF]
  V *slopes, *slopes_xhat;  // like p
  V* dz;                    // [OUT][SIDE][SIDE], of one image
  Normalization* norm;

  V* image(int n) const { return z + size_t(n) * VALUES; }
  V* pooled(int n) const { return p + size_t(n) * CELLS; }

  void forward(const V* a, int n, bool add_moments) const {
    convolve<IN, OUT, SIZE, BLOCK, PIXELS>(a, w.value, b.value, image(n));
    if (NORM == AFTER_ACTIVATION)
      for (int k = 0; k < VALUES; ++k) image(n)[k] = activate<ACT>(image(n)[k]);
    if (add_moments) norm->add_image(n, image(n));
  }

  void pool(int n) const {
    for (int c = 0; c < OUT; ++c) {
      ChannelCoefficients by{};
      if (NORM != NO_NORM) by = norm->at(n, c);
      V* plane = image(n) + c * SIDE * SIDE;
      for (int y = 0; y < HALF; ++y)
        for (int x = 0; x < HALF; ++x) {
          V sum = {}, sum_slope = {}, sum_slope_xhat = {};
          UNROLL for (int k = 0; k < 4; ++k) {
            V& value = plane[(2 * y + k / 2) * SIDE + 2 * x + k % 2];
            V a, slope_here = by.gain, x_hat = by.normalized(value);
            if (NORM == NO_NORM) value = a = activate<ACT>(value);
            if (NORM == BEFORE_ACTIVATION) {
              a = activate<ACT>(by.scale * x_hat + by.offset);
              slope_here *= slope<ACT>(a);
            }
            if (NORM == AFTER_ACTIVATION) a = by.scale * x_hat + by.offset;
            sum += a;
            sum_slope += slope_here;
            sum_slope_xhat += slope_here * x_hat;
          }
          const size_t cell = size_t(n) * CELLS + (c * HALF + y) * HALF + x;
          p[cell] = 0.25f * sum;
          if (NORM == NO_NORM) continue;
          slopes[cell] = 0.25f * sum_slope;
          slopes_xhat[cell] = 0.25f * sum_slope_xhat;
        }
    }
  }

  void reset_gradients() const {
    std::memset(static_cast<void*>(dw), 0, sizeof(V) * WEIGHTS);
    std::memset(static_cast<void*>(db), 0, sizeof(V) * OUT);
  }

  // The sums of dy and dy x_hat, from the gradient dp by the pooled image n
  void add_gradient(int n, const V* dp) const {
    for (int c = 0; c < OUT; ++c) {
      V sum = {}, sum_xhat = {};
      for (int k = c * HALF * HALF; k < (c + 1) * HALF * HALF; ++k) {
        sum += dp[k] * slopes[size_t(n) * CELLS + k];
        sum_xhat += dp[k] * slopes_xhat[size_t(n) * CELLS + k];
      }
      norm->add_gradient(n, c, sum, sum_xhat);
    }
  }

  // dz of ROWS rows of all channels, the first of them in row `first`, and db
  template <int ROWS> void unpool(int n, int first, const V* dp) const {
    for (int c = 0; c < OUT; ++c) {
      ChannelCoefficients by{};
      if (NORM != NO_NORM) by = norm->at(n, c);
      const V* plane = image(n) + c * SIDE * SIDE;
      V sum = {};
      for (int y = first; y < first + ROWS; ++y)
        for (int x = 0; x < SIDE; ++x) {
          const V value = plane[y * SIDE + x], x_hat = by.normalized(value);
          __builtin_prefetch(plane + (y + ROWS) * SIDE + x);  // 7 % of a step at batch 256
          const V da = 0.25f * dp[(c * HALF + y / 2) * HALF + x / 2];
          V d;
          if (NORM == NO_NORM) d = da * slope<ACT>(value);
          if (NORM == BEFORE_ACTIVATION) {
            const V a = activate<ACT>(by.scale * x_hat + by.offset);
            d = by.gradient(da * by.gain * slope<ACT>(a), x_hat);
          }
          if (NORM == AFTER_ACTIVATION) d = by.gradient(da * by.gain, x_hat) * slope<ACT>(value);
          dz[(c * SIDE + y) * SIDE + x] = d;
          sum += d;
        }
      db[c] += sum;
    }
  }

  // dz, dw and db of image n, whose input was a; ROWS at a time, which stay in the first cache
  template <int ROWS, int OUTS> void backward(int n, const V* a, const V* dp) const {
    for (int y = 0; y < SIDE; y += ROWS) {
      unpool<ROWS>(n, y, dp);
      convolve_weight_gradient<IN, OUT, SIZE, ROWS, SIDE * SIDE, OUTS>(a + y * SIZE, dz + y * SIDE,
                                                                      dw);
    }
  }

  void input_gradient(V* da) const {
    convolve_input_gradient<IN, OUT, SIZE, OUT % 4 ? 3 : 4>(dz, w.value, da);
  }

  void step(const Sgd& sgd, bool with_bias) const {
    for (int k = 0; k < WEIGHTS; ++k) w.step(sgd, k, dw[k]);
    for (int o = 0; with_bias && o < OUT; ++o) b.step(sgd, o, db[o]);
  }
};

}  // namespace lockstep
