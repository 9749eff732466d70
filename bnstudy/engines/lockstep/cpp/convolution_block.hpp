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

// BLOCK outputs and PIXELS of a row are convolved at once.
template <int ACT, int NORM, int IN, int OUT, int SIZE, int BLOCK, int PIXELS>
struct ConvolutionBlock {
  static_assert(OUT % BLOCK == 0, "blocks must tile the output");
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

  bool keeps_images;  // for the backward pass; else z holds the latest one only
  V* image(int n) const { return keeps_images ? z + size_t(n) * VALUES : z; }
  V* pooled(int n) const { return p + size_t(n) * CELLS; }

  void forward(const V* a, int n, bool add_moments) const {
    constexpr int PLANE = SIDE * SIDE;
    Moments::Weights weights{};
    if (add_moments) weights = norm->weights_of(n);
    for (int o = 0; o < OUT; o += BLOCK) {
      V* planes = image(n) + o * PLANE;
      convolve<IN, BLOCK, SIZE, PIXELS>(a, w.value + o * IN * 25, b.value + o, planes);
      if (NORM == AFTER_ACTIVATION) activate<ACT>(planes, planes, BLOCK * PLANE);
      for (int k = 0; k < BLOCK && add_moments; ++k)
        norm->add_channel(n, o + k, planes + k * PLANE, weights);
    }
  }

  // Normalize, activate and pool the image; in training also the terms of the backward pass
  template <bool TRAINING> void pool(int n) const {
    for (int c = 0; c < OUT; ++c) {
      ChannelCoefficients by{};
      if (NORM != NO_NORM) by = norm->at(n, c);
      constexpr float factor = NORM == BEFORE_ACTIVATION ? ARGUMENT<ACT> : 1;
      const V scale = by.scale * factor, offset = by.offset * factor;
      const V gain = 0.25f * by.gain;
      V* plane = image(n) + c * SIDE * SIDE;
      const size_t cells = size_t(n) * CELLS + c * HALF * HALF;
      for (int y = 0; y < HALF; ++y)
        for (int x = 0; x < HALF; ++x) {
          V *corner = plane + 2 * y * SIDE + 2 * x, value[4], x_hat[4], a[4], here[4];
          UNROLL for (int k = 0; k < 4; ++k) value[k] = corner[k / 2 * SIDE + k % 2];
          UNROLL for (int k = 0; k < 4; ++k) x_hat[k] = by.normalized(value[k]);
          UNROLL for (int k = 0; k < 4; ++k)
            a[k] = NORM == NO_NORM ? value[k] * ARGUMENT<ACT> : scale * x_hat[k] + offset;
          if (NORM != AFTER_ACTIVATION) activate_arguments<ACT>(a);
          UNROLL for (int k = 0; k < 4; ++k)
            here[k] = NORM == BEFORE_ACTIVATION ? slope<ACT>(a[k]) : broadcast(1.0f);
          if (NORM == NO_NORM)
            UNROLL for (int k = 0; k < 4; ++k) corner[k / 2 * SIDE + k % 2] = a[k];
          const size_t cell = cells + y * HALF + x;
          p[cell] = 0.25f * (a[0] + a[1] + (a[2] + a[3]));
          if (NORM == NO_NORM || !TRAINING) continue;
          slopes[cell] = gain * (here[0] + here[1] + (here[2] + here[3]));
          slopes_xhat[cell] = gain * (here[0] * x_hat[0] + here[1] * x_hat[1] +
                                      (here[2] * x_hat[2] + here[3] * x_hat[3]));
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
      constexpr float factor = NORM == BEFORE_ACTIVATION ? ARGUMENT<ACT> : 1;
      const V scale = by.scale * factor, offset = by.offset * factor;
      const V share = NORM == NO_NORM ? broadcast(0.25f) : 0.25f * by.gain * by.dy_scale;
      const V* plane = image(n) + c * SIDE * SIDE;
      V sum = {};
      for (int y = first; y < first + ROWS; y += 2)
        for (int x = 0; x < SIDE; x += 2) {
          const V by_cell = share * dp[(c * HALF + y / 2) * HALF + x / 2];
          const V* corner = plane + y * SIDE + x;
          V value[4], x_hat[4], a[4];
          UNROLL for (int k = 0; k < 4; ++k) value[k] = corner[k / 2 * SIDE + k % 2];
          UNROLL for (int k = 0; k < 4; k += 64 / sizeof(V))  // 7 % of a step at batch 256
            __builtin_prefetch(corner + (k / 2 + ROWS) * SIDE + k % 2);
          UNROLL for (int k = 0; k < 4; ++k) x_hat[k] = by.normalized(value[k]);
          UNROLL for (int k = 0; k < 4; ++k)
            a[k] = NORM == BEFORE_ACTIVATION ? scale * x_hat[k] + offset : value[k];
          if (NORM == BEFORE_ACTIVATION) activate_arguments<ACT>(a);
          UNROLL for (int k = 0; k < 4; ++k) {
            const V rest = by.dy_mean + x_hat[k] * by.dy_xhat_mean;
            V d = by_cell * slope<ACT>(a[k]);
            if (NORM == BEFORE_ACTIVATION) d -= rest;
            if (NORM == AFTER_ACTIVATION) d = (by_cell - rest) * slope<ACT>(a[k]);
            dz[c * SIDE * SIDE + (y + k / 2) * SIDE + x + k % 2] = d;
            sum += d;
          }
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
