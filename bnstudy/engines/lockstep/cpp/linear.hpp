// Linear layers of any size: forward, and backward with the step of SGD.
//
// a [N][IN], w [OUT][IN], z [N][OUT], all of V.  The weights of all seeds (2 MB for fc1 of LeNet
// with sixteen lanes) are more than the second-level cache holds: forward they are read once for
// every CHUNK of images, and backward each strip of columns gives the input gradient, gets its own
// gradient and takes its step while it is in the cache.  Tiles of sums stay in registers; what
// they leave over, where they do not divide a size, goes through tiles of one.
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
  Size size;

  Parameter from(Size at) const {
    return {value + at, velocity ? velocity + at : nullptr, size - at};
  }
  void step(const Sgd& sgd, Size at, V gradient) const {
    sgd.step(value[at], velocity ? velocity + at : nullptr, gradient);
  }
};

constexpr int CHUNK = 32;   // images that share one reading of the weights
constexpr int COLUMNS = 4;  // inputs of a tile of the backward pass

// z[n][o] = b[o] + sum over k of w[o][k] a[n][k] for a tile of images and outputs
template <int IMAGES, int OUTS>
void linear_tile(const V* a, const V* w, const V* b, V* z, Size in, Size out) {
  V sum[IMAGES][OUTS];
  UNROLL for (int n = 0; n < IMAGES; ++n)
    UNROLL for (int o = 0; o < OUTS; ++o) sum[n][o] = b[o];
  for (Size k = 0; k < in; ++k)
    UNROLL for (int o = 0; o < OUTS; ++o)
      UNROLL for (int n = 0; n < IMAGES; ++n) sum[n][o] += w[o * in + k] * a[n * in + k];
  UNROLL for (int n = 0; n < IMAGES; ++n)
    UNROLL for (int o = 0; o < OUTS; ++o) z[n * out + o] = sum[n][o];
}

template <int OUTS>
void linear_outputs(const V* a, const V* w, const V* b, V* z, int images, Size in, Size out) {
  constexpr int IMAGES = tile(4, 2);
  int n = 0;
  for (; n + IMAGES <= images; n += IMAGES)
    linear_tile<IMAGES, OUTS>(a + n * in, w, b, z + n * out, in, out);
  for (; n < images; ++n) linear_tile<1, OUTS>(a + n * in, w, b, z + n * out, in, out);
}

inline void linear(const V* a, const V* w, const V* b, V* z, int images, Size in, Size out) {
  for (int n = 0; n < images; n += CHUNK, a += CHUNK * in, z += CHUNK * out) {
    const int count = std::min(CHUNK, images - n);
    Size o = 0;
    for (; o + 6 <= out; o += 6) linear_outputs<6>(a, w + o * in, b + o, z + o, count, in, out);
    for (; o + 2 <= out; o += 2) linear_outputs<2>(a, w + o * in, b + o, z + o, count, in, out);
    for (; o < out; ++o) linear_outputs<1>(a, w + o * in, b + o, z + o, count, in, out);
  }
}

// da[n][k] = sum over o of w[o][k] dz[n][o] for a tile of images and inputs
template <int IMAGES, int INS>
void linear_input_tile(const V* dz, const V* w, V* da, Size in, Size out) {
  V sum[IMAGES][INS] = {};
  for (Size o = 0; o < out; ++o)
    UNROLL for (int n = 0; n < IMAGES; ++n)
      UNROLL for (int k = 0; k < INS; ++k) sum[n][k] += w[o * in + k] * dz[n * out + o];
  UNROLL for (int n = 0; n < IMAGES; ++n)
    UNROLL for (int k = 0; k < INS; ++k) da[n * in + k] = sum[n][k];
}

template <int INS>
void linear_input_gradient(const V* dz, const V* w, V* da, int images, Size in, Size out) {
  constexpr int IMAGES = tile(4, 3);
  int n = 0;
  for (; n + IMAGES <= images; n += IMAGES)
    linear_input_tile<IMAGES, INS>(dz + n * out, w, da + n * in, in, out);
  for (; n < images; ++n) linear_input_tile<1, INS>(dz + n * out, w, da + n * in, in, out);
}

// sum[o][k] += sum over n of dz[n][o] a[n][k] for a tile of outputs and inputs; rows of sum are
// COLUMNS apart
template <int OUTS, int INS>
void linear_weight_tile(const V* a, const V* dz, V* sum, int images, Size in, Size out) {
  V s[OUTS][INS];
  UNROLL for (int o = 0; o < OUTS; ++o)
    UNROLL for (int k = 0; k < INS; ++k) s[o][k] = sum[o * COLUMNS + k];
  for (int n = 0; n < images; ++n)
    UNROLL for (int o = 0; o < OUTS; ++o)
      UNROLL for (int k = 0; k < INS; ++k) s[o][k] += dz[n * out + o] * a[n * in + k];
  UNROLL for (int o = 0; o < OUTS; ++o)
    UNROLL for (int k = 0; k < INS; ++k) sum[o * COLUMNS + k] = s[o][k];
}

// The step of `OUTS` rows of a strip of `columns` columns, over all images
template <int OUTS, int STRIP>
void linear_step_rows(const V* a, const V* dz, Parameter w, int columns, int images, Size in,
                      Size out, const Sgd& sgd) {
  V sum[STRIP / COLUMNS][OUTS][COLUMNS] = {};
  for (int n = 0; n < images; n += 2 * CHUNK) {
    const int count = std::min(2 * CHUNK, images - n);
    const V *inputs = a + n * in, *gradients = dz + n * out;
    int k = 0;
    for (; k + COLUMNS <= columns; k += COLUMNS)
      linear_weight_tile<OUTS, COLUMNS>(inputs + k, gradients, sum[k / COLUMNS][0], count, in, out);
    for (; k < columns; ++k)
      linear_weight_tile<OUTS, 1>(inputs + k, gradients, sum[k / COLUMNS][0] + k % COLUMNS, count,
                                  in, out);
  }
  for (int k = 0; k < columns; ++k)
    UNROLL for (int o = 0; o < OUTS; ++o)
      w.step(sgd, o * in + k, sum[k / COLUMNS][o][k % COLUMNS]);
}

// dw[o][k] = sum over n of dz[n][o] a[n][k], db[o] = sum over n of dz[n][o], and their steps;
// da as above, by the weights before the step, unless it is null.
inline void linear_backward(const V* a, const V* dz, Parameter w, Parameter b, V* da, int images,
                            Size in, Size out, const Sgd& sgd) {
  constexpr int STRIP = 32, MANY = tile(6, 3), FEW = tile(2, 1);
  for (Size k = 0; k < in; k += STRIP) {
    const int columns = int(std::min<Size>(STRIP, in - k));
    for (int n = 0; n < images && da; n += CHUNK) {
      const int count = std::min(CHUNK, images - n);
      const V* gradients = dz + n * out;
      V* to = da + n * in;
      Size j = k;
      for (; j + COLUMNS <= k + columns; j += COLUMNS)
        linear_input_gradient<COLUMNS>(gradients, w.value + j, to + j, count, in, out);
      for (; j < k + columns; ++j)
        linear_input_gradient<1>(gradients, w.value + j, to + j, count, in, out);
    }
    for (Size o = 0; o < out;) {
      const Size left = out - o, rows = left >= MANY ? MANY : left >= FEW ? FEW : 1;
      const auto step = rows == MANY  ? linear_step_rows<MANY, STRIP>
                        : rows == FEW ? linear_step_rows<FEW, STRIP>
                                      : linear_step_rows<1, STRIP>;
      step(a + k, dz + o, w.from(o * in + k), columns, images, in, out, sgd);
      o += rows;
    }
  }
  for (Size o = 0; b.value && o < out; ++o) {
    V sum = {};
    for (int n = 0; n < images; ++n) sum += dz[n * out + o];
    b.step(sgd, o, sum);
  }
}

}  // namespace lockstep
