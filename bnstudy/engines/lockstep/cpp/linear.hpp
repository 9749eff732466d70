// Linear layers: forward, and backward with the step of SGD.
//
// a [N][IN], w [OUT][IN], z [N][OUT], all of V.  Sixteen seeds of fc1 have 2 MB of
// weights, more than the second-level cache holds: forward they are read once for every CHUNK
// of images, and backward each strip of columns gives the input gradient, gets its own
// gradient and takes its step while it is in the cache.
#pragma once

#include <algorithm>

#include "vector.hpp"

namespace lockstep {

// SGD as torch's: g = dp + decay p;  v = momentum v + g;  p = p - rate v.
// Seeds that have diverged keep their parameters.
struct Sgd {
  V rate;
  float momentum, decay;
  I active;

  void step(V& p, V* v, V dp) const {
    V g = dp + decay * p;
    if (v) *v = g = momentum * *v + g;
    p = select(active, p - rate * g, p);
  }
};

// A parameter with its velocity, which is null without momentum.
struct Parameter {
  V *value, *velocity;

  void step(const Sgd& sgd, int at, V gradient) const {
    sgd.step(value[at], velocity ? velocity + at : nullptr, gradient);
  }
};

constexpr int CHUNK = 32;  // images that share one reading of the weights

// z[n][o] = b[o] + sum over k of w[o][k] a[n][k] for a tile of images and outputs
template <int IMAGES, int OUTS>
void linear_tile(const V* a, const V* w, const V* b, V* z, int in, int out) {
  V sum[IMAGES][OUTS];
  UNROLL for (int n = 0; n < IMAGES; ++n)
    UNROLL for (int o = 0; o < OUTS; ++o) sum[n][o] = b[o];
  for (int k = 0; k < in; ++k)
    UNROLL for (int o = 0; o < OUTS; ++o)
      UNROLL for (int n = 0; n < IMAGES; ++n) sum[n][o] += w[o * in + k] * a[n * in + k];
  UNROLL for (int n = 0; n < IMAGES; ++n)
    UNROLL for (int o = 0; o < OUTS; ++o) z[n * out + o] = sum[n][o];
}

template <int OUTS>
void linear_outputs(const V* a, const V* w, const V* b, V* z, int images, int in, int out) {
  constexpr int IMAGES = tile(4, 2);
  int n = 0;
  for (; n + IMAGES <= images; n += IMAGES)
    linear_tile<IMAGES, OUTS>(a + n * in, w, b, z + n * out, in, out);
  for (; n < images; ++n) linear_tile<1, OUTS>(a + n * in, w, b, z + n * out, in, out);
}

template <int IN, int OUT>
void linear(const V* a, const V* w, const V* b, V* z, int images) {
  for (int n = 0; n < images; n += CHUNK, a += CHUNK * IN, z += CHUNK * OUT) {
    const int count = std::min(CHUNK, images - n);
    int o = 0;
    for (; o + 6 <= OUT; o += 6) linear_outputs<6>(a, w + o * IN, b + o, z + o, count, IN, OUT);
    for (; o < OUT; o += 2) linear_outputs<2>(a, w + o * IN, b + o, z + o, count, IN, OUT);
  }
}

// da[n][k] = sum over o of w[o][k] dz[n][o] for a tile of images and four inputs
template <int IMAGES>
void linear_input_tile(const V* dz, const V* w, V* da, int in, int out) {
  V sum[IMAGES][4] = {};
  for (int o = 0; o < out; ++o)
    UNROLL for (int n = 0; n < IMAGES; ++n)
      UNROLL for (int k = 0; k < 4; ++k) sum[n][k] += w[o * in + k] * dz[n * out + o];
  UNROLL for (int n = 0; n < IMAGES; ++n)
    UNROLL for (int k = 0; k < 4; ++k) da[n * in + k] = sum[n][k];
}

inline void linear_input_gradient(const V* dz, const V* w, V* da, int images, int in, int out) {
  constexpr int IMAGES = tile(4, 3);
  int n = 0;
  for (; n + IMAGES <= images; n += IMAGES)
    linear_input_tile<IMAGES>(dz + n * out, w, da + n * in, in, out);
  for (; n < images; ++n) linear_input_tile<1>(dz + n * out, w, da + n * in, in, out);
}

// sum[o][k] += sum over n of dz[n][o] a[n][k] for OUTS outputs and four inputs
template <int OUTS>
void linear_weight_tile(const V* a, const V* dz, V (&sum)[OUTS][4], int images, int in, int out) {
  V s[OUTS][4];
  UNROLL for (int o = 0; o < OUTS; ++o)
    UNROLL for (int k = 0; k < 4; ++k) s[o][k] = sum[o][k];
  for (int n = 0; n < images; ++n)
    UNROLL for (int o = 0; o < OUTS; ++o)
      UNROLL for (int k = 0; k < 4; ++k) s[o][k] += dz[n * out + o] * a[n * in + k];
  UNROLL for (int o = 0; o < OUTS; ++o)
    UNROLL for (int k = 0; k < 4; ++k) sum[o][k] = s[o][k];
}

// The step of `OUTS` rows of a strip of `columns` columns, over all images
template <int OUTS, int STRIP>
void linear_step_rows(const V* a, const V* dz, Parameter w, int columns, int images, int in,
                      int out, const Sgd& sgd) {
  V sum[STRIP / 4][OUTS][4] = {};
  for (int n = 0; n < images; n += 2 * CHUNK)
    for (int k = 0; k < columns; k += 4)
      linear_weight_tile<OUTS>(a + n * in + k, dz + n * out, sum[k / 4],
                               std::min(2 * CHUNK, images - n), in, out);
  for (int k = 0; k < columns; ++k)
    UNROLL for (int o = 0; o < OUTS; ++o) w.step(sgd, o * in + k, sum[k / 4][o][k % 4]);
}

// dw[o][k] = sum over n of dz[n][o] a[n][k], db[o] = sum over n of dz[n][o], and their steps;
// da as above, by the weights before the step.
template <int IN, int OUT>
void linear_backward(const V* a, const V* dz, Parameter w, Parameter b, V* da, int images,
                     const Sgd& sgd) {
  constexpr int STRIP = 32;
  static_assert(IN % 4 == 0 && OUT % 2 == 0, "tiles must fit");
  for (int k = 0; k < IN; k += STRIP) {
    const int columns = std::min(STRIP, IN - k);
    for (int n = 0; n < images; n += CHUNK)
      for (int j = k; j < k + columns; j += 4)
        linear_input_gradient(dz + n * OUT, w.value + j, da + n * IN + j,
                              std::min(CHUNK, images - n), IN, OUT);
    for (int o = 0; o < OUT;) {
      constexpr int MANY = tile(6, 3), FEW = tile(2, 1);
      const bool many = o + MANY <= OUT;
      const Parameter part{w.value + o * IN + k, w.velocity ? w.velocity + o * IN + k : nullptr};
      (many ? linear_step_rows<MANY, STRIP> : linear_step_rows<FEW, STRIP>)(
          a + k, dz + o, part, columns, images, IN, OUT, sgd);
      o += many ? MANY : FEW;
    }
  }
  for (int o = 0; b.value && o < OUT; ++o) {
    V sum = {};
    for (int n = 0; n < images; ++n) sum += dz[n * OUT + o];
    b.step(sgd, o, sum);
  }
}

}  // namespace lockstep
