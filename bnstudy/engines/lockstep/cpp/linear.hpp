// Linear layers of any size: forward, and backward with the step of SGD.
//
// a [N][IN], w [OUT][IN], z [N][OUT], all of V.  The weights of all seeds (2 MB for fc1 of LeNet
// with sixteen lanes) are more than the second-level cache holds: forward they are read once for
// every CHUNK of images, and backward each strip of columns gives the input gradient, gets its own
// gradient and takes its step while it is in the cache.  Tiles of sums stay in registers; what
// they leave over, where they do not divide a size, goes through tiles of one.  Backward reads
// tiles down the columns of all three arrays.  Rows that are a power of two apart would put each
// other out of the first-level cache, so the tiles are copied next to each other first: the
// backward pass of fc1 of LeNet, at batch 256, takes two thirds of the time with that.
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
constexpr int STRIP = 32;   // columns that go through the backward pass together
constexpr int COLUMNS = 4;  // of them, inputs of a tile
constexpr int ROWS = tile(6, 3);  // outputs of a tile of the weights' gradient
constexpr int FEWEST_COPIED = 8;  // images: with fewer, copying weights costs more than it saves

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

// Copies of tiles, for one linear_backward() at a time
struct Tiles {
  V* gradients;  // of dz [N][OUT]: [tile of ROWS outputs][N][ROWS]
  V* inputs;     // of a strip of a [N][IN]: [tile of COLUMNS inputs][N][COLUMNS]
  V* weights;    // of a strip of w [OUT][IN]: [tile of COLUMNS inputs][OUT][COLUMNS]
};

// [rows][...] -> [columns / WIDTH][rows][WIDTH]; the last tile is as wide as the others, and
// what lies beyond the columns stays unset
template <int WIDTH> void copy_tiles(const V* from, V* to, Size rows, Size columns, Size stride) {
  for (Size c = 0; c < columns; c += WIDTH)
    for (Size row = 0; row < rows; ++row, to += WIDTH)
      for (Size k = 0; k < std::min<Size>(WIDTH, columns - c); ++k) to[k] = from[row * stride + c + k];
}

// da[n][k] = sum over o of w[o][k] dz[n][o] for a tile of images and inputs; rows of w are
// `stride` apart
template <int IMAGES, int INS>
void linear_input_tile(const V* dz, const V* w, V* da, Size stride, Size in, Size out) {
  V sum[IMAGES][INS] = {};
  for (Size o = 0; o < out; ++o)
    UNROLL for (int n = 0; n < IMAGES; ++n)
      UNROLL for (int k = 0; k < INS; ++k) sum[n][k] += w[o * stride + k] * dz[n * out + o];
  UNROLL for (int n = 0; n < IMAGES; ++n)
    UNROLL for (int k = 0; k < INS; ++k) da[n * in + k] = sum[n][k];
}

template <int INS>
void linear_input_gradient(const V* dz, const V* w, V* da, int images, Size stride, Size in,
                           Size out) {
  constexpr int IMAGES = tile(4, 3);
  int n = 0;
  for (; n + IMAGES <= images; n += IMAGES)
    linear_input_tile<IMAGES, INS>(dz + n * out, w, da + n * in, stride, in, out);
  for (; n < images; ++n)
    linear_input_tile<1, INS>(dz + n * out, w, da + n * in, stride, in, out);
}

// da of a strip of columns, for all images
inline void linear_input_strip(const V* dz, const V* w, V* da, int columns, int images, Size in,
                               Size out, V* copied) {
  const bool copies = images >= FEWEST_COPIED;
  if (copies) copy_tiles<COLUMNS>(w, copied, out, columns, in);
  const Size stride = copies ? COLUMNS : in;
  for (int n = 0; n < images; n += CHUNK) {
    const int count = std::min(CHUNK, images - n);
    for (int j = 0; j < columns; j += COLUMNS) {
      const V* tile = copies ? copied + j * out : w + j;
      V* to = da + n * in + j;
      if (j + COLUMNS <= columns)
        linear_input_gradient<COLUMNS>(dz + n * out, tile, to, count, stride, in, out);
      for (int k = j; k < columns && j + COLUMNS > columns; ++k)
        linear_input_gradient<1>(dz + n * out, tile + k - j, to + k - j, count, stride, in, out);
    }
  }
}

// sum[o][k] += sum over n of dz[n][o] a[n][k] for the first OUTS and INS of a tile; rows of sum
// are COLUMNS apart
template <int OUTS, int INS>
void linear_weight_tile(const V* a, const V* dz, V* sum, int images) {
  V s[OUTS][INS];
  UNROLL for (int o = 0; o < OUTS; ++o)
    UNROLL for (int k = 0; k < INS; ++k) s[o][k] = sum[o * COLUMNS + k];
  for (int n = 0; n < images; ++n)
    UNROLL for (int o = 0; o < OUTS; ++o)
      UNROLL for (int k = 0; k < INS; ++k) s[o][k] += dz[n * ROWS + o] * a[n * COLUMNS + k];
  UNROLL for (int o = 0; o < OUTS; ++o)
    UNROLL for (int k = 0; k < INS; ++k) sum[o * COLUMNS + k] = s[o][k];
}

// The steps of OUTS rows of a strip of columns, by copied tiles
template <int OUTS>
void linear_step_rows(const V* a, const V* dz, Parameter w, int columns, int images, Size in,
                      const Sgd& sgd) {
  V sum[STRIP / COLUMNS][OUTS][COLUMNS] = {};
  for (int n = 0; n < images; n += 2 * CHUNK) {
    const int count = std::min(2 * CHUNK, images - n);
    for (int j = 0; j < columns; j += COLUMNS) {
      const V *inputs = a + Size(j) * images + n * COLUMNS, *gradients = dz + n * ROWS;
      V* to = sum[j / COLUMNS][0];
      if (j + COLUMNS <= columns) linear_weight_tile<OUTS, COLUMNS>(inputs, gradients, to, count);
      for (int k = 0; k < columns - j && j + COLUMNS > columns; ++k)
        linear_weight_tile<OUTS, 1>(inputs + k, gradients, to + k, count);
    }
  }
  for (int k = 0; k < columns; ++k)
    UNROLL for (int o = 0; o < OUTS; ++o)
      w.step(sgd, o * in + k, sum[k / COLUMNS][o][k % COLUMNS]);
}

// dw as above, db[o] = sum over n of dz[n][o], and their steps; da as above, by the weights
// before the step, unless it is null.
inline void linear_backward(const V* a, const V* dz, Parameter w, Parameter b, V* da, int images,
                            Size in, Size out, const Sgd& sgd, const Tiles& tiles) {
  copy_tiles<ROWS>(dz, tiles.gradients, images, out, out);
  for (Size k = 0; k < in; k += STRIP) {
    const int columns = int(std::min<Size>(STRIP, in - k));
    if (da) linear_input_strip(dz, w.value + k, da + k, columns, images, in, out, tiles.weights);
    copy_tiles<COLUMNS>(a + k, tiles.inputs, images, columns, in);
    for (Size o = 0; o < out; o += ROWS) {
      const V* gradients = tiles.gradients + o * images;
      const Parameter rows = w.from(o * in + k);
      if (o + ROWS <= out)
        linear_step_rows<ROWS>(tiles.inputs, gradients, rows, columns, images, in, sgd);
      for (Size r = o; r < out && o + ROWS > out; ++r)
        linear_step_rows<1>(tiles.inputs, gradients + r - o, w.from(r * in + k), columns, images,
                            in, sgd);
    }
  }
  for (Size o = 0; b.value && o < out; ++o) {
    V sum = {};
    for (int n = 0; n < images; ++n) sum += dz[n * out + o];
    b.step(sgd, o, sum);
  }
}

}  // namespace lockstep
