// LeNet for sixteen seeds at once: forward, backward and SGD, a seed in each vector lane.
//
// Every number of the network is a vector V of 16 floats, one for each seed of a
// stack, so all seeds take the same instructions and no layer is too narrow for
// the processor.  Arrays are [image][channel][y][x] of V; weights [out][in][ky][kx].
// Width and instruction set are the compiler's business: V is a GCC vector type.
//
// Each layer's backward pass stands under its forward pass, with its formula.
// Notation: z what a layer puts out, y after normalization, a after the activation;
// dz, dy, da the gradients of the loss by them.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

constexpr int LANES = 16;
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int I __attribute__((vector_size(4 * LANES)));

V all(float value) { return V{} + value; }
V choose(I mask, V yes, V no) { return (V)((mask & (I)yes) | (~mask & (I)no)); }

// exp to about 1e-7 relative: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes)
V exponential(V x) {
  x = choose(x > 88.0f, all(88.0f), x);
  x = choose(x < -87.0f, all(-87.0f), x);
  const V magic = all(12582912.0f);  // adding 1.5 * 2^23 rounds to an integer
  V n = x * 1.44269504088896341f + magic - magic;
  V r = x - n * 0.693359375f + n * 2.12194440e-4f;
  V p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  I power = (__builtin_convertvector(n, I) + 127) << 23;
  return p * (V)power;
}

// Activations -------------------------------------------------------------------------

enum Activation { SIGMOID, RELU, TANH };

template <int ACT> V activate(V y) {
  if (ACT == SIGMOID) return 1.0f / (1.0f + exponential(-y));
  if (ACT == TANH) return 2.0f / (1.0f + exponential(-2.0f * y)) - 1.0f;
  return choose(y > 0.0f, y, V{});
}

// da/dy, given y and a
template <int ACT> V slope(V y, V a) {
  if (ACT == SIGMOID) return a * (1.0f - a);
  if (ACT == TANH) return 1.0f - a * a;
  return choose(y > 0.0f, all(1.0f), V{});
}

// Convolution 5 x 5 -------------------------------------------------------------------

// z[o][y][x] = b[o] + sum over i, ky, kx of w[o][i][ky][kx] a[i][y + ky][x + kx]
template <int IN, int OUT, int SIZE, int BLOCK>
void convolve(const V* a, const V* w, const V* b, V* z) {
  constexpr int SIDE = SIZE - 4, PIXELS = 4;
  for (int o = 0; o < OUT; o += BLOCK)
    for (int y = 0; y < SIDE; ++y)
      for (int x = 0; x < SIDE; x += PIXELS) {
        V sum[BLOCK][PIXELS];
        for (int k = 0; k < BLOCK; ++k)
          for (int j = 0; j < PIXELS; ++j) sum[k][j] = b[o + k];
        for (int i = 0; i < IN; ++i)
          for (int ky = 0; ky < 5; ++ky) {
            const V* row = a + (i * SIZE + y + ky) * SIZE + x;
            const V* weight = w + (o * IN + i) * 25 + ky * 5;
            for (int kx = 0; kx < 5; ++kx)
              for (int k = 0; k < BLOCK; ++k)
                for (int j = 0; j < PIXELS; ++j) sum[k][j] += weight[k * IN * 25 + kx] * row[kx + j];
          }
        for (int k = 0; k < BLOCK; ++k)
          for (int j = 0; j < PIXELS; ++j) z[((o + k) * SIDE + y) * SIDE + x + j] = sum[k][j];
      }
}

// da[i][y][x] = sum over o, ky, kx of w[o][i][ky][kx] dz[o][y - ky][x - kx]
// Rows outside dz are skipped; its columns are padded with zeros in `padded` [OUT][SIDE][SIDE + 8].
template <int IN, int OUT, int SIZE>
void convolve_input_gradient(const V* dz, const V* w, V* padded, V* da) {
  constexpr int SIDE = SIZE - 4, WIDTH = SIDE + 8, PIXELS = 4;
  for (int row = 0; row < OUT * SIDE; ++row)
    for (int x = 0; x < SIDE; ++x) padded[row * WIDTH + 4 + x] = dz[row * SIDE + x];
  for (int y = 0; y < SIZE; ++y) {
    const int first = y < SIDE ? 0 : y - SIDE + 1, last = y < 4 ? y : 4;
    for (int x = 0; x < SIZE; x += PIXELS) {
      V sum[IN][PIXELS] = {};
      for (int o = 0; o < OUT; ++o)
        for (int ky = first; ky <= last; ++ky) {
          const V* row = padded + (o * SIDE + y - ky) * WIDTH + x + 4;
          const V* weight = w + o * IN * 25 + ky * 5;
          for (int kx = 0; kx < 5; ++kx)
            for (int i = 0; i < IN; ++i)
              for (int j = 0; j < PIXELS; ++j) sum[i][j] += weight[i * 25 + kx] * row[j - kx];
        }
      for (int i = 0; i < IN; ++i)
        for (int j = 0; j < PIXELS; ++j) da[(i * SIZE + y) * SIZE + x + j] = sum[i][j];
    }
  }
}

// dw[o][i][ky][kx] += sum over y, x of dz[o][y][x] a[i][y + ky][x + kx];  db[o] += sum dz[o]
template <int IN, int OUT, int SIZE, int BLOCK>
void convolve_weight_gradient(const V* a, const V* dz, V* dw, V* db) {
  constexpr int SIDE = SIZE - 4;
  for (int o = 0; o < OUT; o += BLOCK) {
    for (int i = 0; i < IN; ++i)
      for (int ky = 0; ky < 5; ++ky) {
        V sum[BLOCK][5] = {};
        for (int y = 0; y < SIDE; ++y) {
          const V* row = a + (i * SIZE + y + ky) * SIZE;
          const V* from = dz + (o * SIDE + y) * SIDE;
          for (int x = 0; x < SIDE; ++x)
            for (int k = 0; k < BLOCK; ++k)
              for (int kx = 0; kx < 5; ++kx) sum[k][kx] += from[k * SIDE * SIDE + x] * row[x + kx];
        }
        for (int k = 0; k < BLOCK; ++k)
          for (int kx = 0; kx < 5; ++kx) dw[((o + k) * IN + i) * 25 + ky * 5 + kx] += sum[k][kx];
      }
    for (int k = 0; k < BLOCK; ++k) {
      V sum = {};
      for (int p = 0; p < SIDE * SIDE; ++p) sum += dz[(o + k) * SIDE * SIDE + p];
      db[o + k] += sum;
    }
  }
}

// Linear layers -----------------------------------------------------------------------

// z[n][o] = b[o] + sum over k of w[o][k] a[n][k], a tile of images and outputs in registers
template <int IMAGES, int OUTS>
void linear_tile(const V* a, const V* w, const V* b, V* z, int in, int out) {
  V sum[IMAGES][OUTS];
  for (int n = 0; n < IMAGES; ++n)
    for (int o = 0; o < OUTS; ++o) sum[n][o] = b[o];
  for (int k = 0; k < in; ++k)
    for (int n = 0; n < IMAGES; ++n)
      for (int o = 0; o < OUTS; ++o) sum[n][o] += w[o * in + k] * a[n * in + k];
  for (int n = 0; n < IMAGES; ++n)
    for (int o = 0; o < OUTS; ++o) z[n * out + o] = sum[n][o];
}

void linear(const V* a, const V* w, const V* b, V* z, int images, int in, int out) {
  for (int o = 0; o < out; o += 2) {
    const bool four = o + 4 <= out;
    for (int n = 0; n < images;) {
      const V *from = a + n * in, *weight = w + o * in;
      V* to = z + n * out + o;
      const bool block = n + 4 <= images;
      if (block && four) linear_tile<4, 4>(from, weight, b + o, to, in, out);
      else if (block) linear_tile<4, 2>(from, weight, b + o, to, in, out);
      else if (four) linear_tile<1, 4>(from, weight, b + o, to, in, out);
      else linear_tile<1, 2>(from, weight, b + o, to, in, out);
      n += block ? 4 : 1;
    }
    if (four) o += 2;
  }
}

// da[n][k] = sum over o of w[o][k] dz[n][o]
template <int IMAGES>
void linear_input_tile(const V* dz, const V* w, V* da, int in, int out) {
  V sum[IMAGES][4] = {};
  for (int o = 0; o < out; ++o)
    for (int n = 0; n < IMAGES; ++n)
      for (int k = 0; k < 4; ++k) sum[n][k] += w[o * in + k] * dz[n * out + o];
  for (int n = 0; n < IMAGES; ++n)
    for (int k = 0; k < 4; ++k) da[n * in + k] = sum[n][k];
}

void linear_input_gradient(const V* dz, const V* w, V* da, int images, int in, int out) {
  for (int k = 0; k < in; k += 4) {
    int n = 0;
    for (; n + 4 <= images; n += 4)
      linear_input_tile<4>(dz + n * out, w + k, da + n * in + k, in, out);
    for (; n < images; ++n) linear_input_tile<1>(dz + n * out, w + k, da + n * in + k, in, out);
  }
}

// Plain SGD: p <- p - rate (dp + decay p), v <- momentum v + (...) with momentum.
// Lanes that have diverged keep their parameters.
struct Step {
  V rate;
  float decay, momentum;
  I active;

  void update(V* p, V* velocity, V gradient) const {
    gradient += decay * *p;
    if (velocity) *velocity = gradient = momentum * *velocity + gradient;
    *p = choose(active, *p - rate * gradient, *p);
  }
};

// dw[o][k] = sum over n of dz[n][o] a[n][k], and the step with it
template <int OUTS>
void linear_step_tile(const V* a, const V* dz, V* w, V* v, int images, int in, int out,
                      const Step& step) {
  V sum[OUTS][4] = {};
  for (int n = 0; n < images; ++n)
    for (int o = 0; o < OUTS; ++o)
      for (int k = 0; k < 4; ++k) sum[o][k] += dz[n * out + o] * a[n * in + k];
  for (int o = 0; o < OUTS; ++o)
    for (int k = 0; k < 4; ++k) step.update(w + o * in + k, v ? v + o * in + k : nullptr, sum[o][k]);
}

void linear_step(const V* a, const V* dz, V* w, V* b, V* vw, V* vb, int images, int in, int out,
                 const Step& step) {
  for (int o = 0; o < out; o += 2) {
    const bool four = o + 4 <= out;
    for (int k = 0; k < in; k += 4) {
      V* v = vw ? vw + o * in + k : nullptr;
      if (four) linear_step_tile<4>(a + k, dz + o, w + o * in + k, v, images, in, out, step);
      else linear_step_tile<2>(a + k, dz + o, w + o * in + k, v, images, in, out, step);
    }
    if (four) o += 2;
  }
  for (int o = 0; b && o < out; ++o) {
    V sum = {};
    for (int n = 0; n < images; ++n) sum += dz[n * out + o];
    step.update(b + o, vb ? vb + o : nullptr, sum);
  }
}

// Moments -----------------------------------------------------------------------------

// Mean and sum of squared deviations, merged image by image in double precision
// (Chan, Golub & LeVeque 1983), so that a mean far from zero costs no digits.
struct Moments {
  double mean[LANES], squares[LANES], count;

  void clear() { std::memset(this, 0, sizeof *this); }

  // `part` values with mean m and squared deviations q
  void merge(V m, V q, double part) {
    const double total = count + part;
    for (int lane = 0; lane < LANES; ++lane) {
      const double delta = m[lane] - mean[lane];
      mean[lane] += delta * part / total;
      squares[lane] += q[lane] + delta * delta * count * part / total;
    }
    count = total;
  }
};

// The values of one channel of one image (or, with a stride, of one unit over images)
void merge_values(Moments& into, const V* values, int count, int stride) {
  V sum = {}, squares = {};
  for (int p = 0; p < count; ++p) sum += values[p * stride];
  const V mean = sum / float(count);
  for (int p = 0; p < count; ++p) {
    const V off = values[p * stride] - mean;
    squares += off * off;
  }
  into.merge(mean, squares, count);
}

// Batch normalization -----------------------------------------------------------------

// One normalization layer: y = scale z + shift, channel by channel, where
// scale = gamma / sqrt(var + eps) and shift = beta - mean scale.
struct Norm {
  int channels;
  V *gamma, *beta, *running_mean, *running_var;  // parameters and buffers
  V *mean, *inverse, *scale, *shift;             // of the batch, or of evaluation
  V *sum_dy, *sum_dy_xhat;                       // over the batch, in the backward pass
  Moments* moments;

  void take(int channel, V m, V var, float eps) {
    V root;
    for (int lane = 0; lane < LANES; ++lane) root[lane] = std::sqrt(var[lane] + eps);
    mean[channel] = m;
    inverse[channel] = 1.0f / root;
    scale[channel] = gamma[channel] * inverse[channel];
    shift[channel] = beta[channel] - m * scale[channel];
  }

  // Lanes that have diverged keep their running moments too.
  void from_batch(float eps, float keep, bool unbiased, I active) {
    for (int c = 0; c < channels; ++c) {
      const Moments& found = moments[c];
      const double bessel = unbiased ? found.count / (found.count - 1) : 1.0;
      V m, var, averaged;
      for (int lane = 0; lane < LANES; ++lane) {
        m[lane] = float(found.mean[lane]);
        var[lane] = float(found.squares[lane] / found.count);
        averaged[lane] = float(found.squares[lane] / found.count * bessel);
      }
      running_mean[c] = choose(active, keep * running_mean[c] + (1.0f - keep) * m, running_mean[c]);
      running_var[c] =
          choose(active, keep * running_var[c] + (1.0f - keep) * averaged, running_var[c]);
      take(c, m, var, eps);
      sum_dy[c] = sum_dy_xhat[c] = V{};
    }
  }

  void from_running(float eps) {
    for (int c = 0; c < channels; ++c) take(c, running_mean[c], running_var[c], eps);
  }

  // dz = scale (dy - mean(dy) - x_hat mean(dy x_hat)), means over the m values of a channel
  V gradient(int c, V z, V dy, float m) const {
    const V x_hat = (z - mean[c]) * inverse[c];
    return scale[c] * (dy - (sum_dy[c] + x_hat * sum_dy_xhat[c]) / m);
  }

  void step(const Step& step, V* v) {  // dgamma = sum dy x_hat, dbeta = sum dy
    for (int c = 0; c < channels; ++c) {
      step.update(gamma + c, v ? v + c : nullptr, sum_dy_xhat[c]);
      step.update(beta + c, v ? v + channels + c : nullptr, sum_dy[c]);
    }
  }
};

// The network -------------------------------------------------------------------------

constexpr int CHANNELS[4] = {6, 16, 120, 84};
constexpr int Z1 = 6 * 24 * 24, P1 = 6 * 12 * 12, Z2 = 16 * 8 * 8, P2 = 16 * 4 * 4;
constexpr int SIZES[5] = {150, 2400, 120 * 256, 84 * 120, 10 * 84};
constexpr int OUTS[5] = {6, 16, 120, 84, 10};
constexpr int TILE = 16;  // images of an evaluation at a time

}  // namespace

extern "C" {

// What the caller sets once; plain C types only.
struct Spec {
  int32_t normed, activation, batch, unbiased, bias, dropout_hidden, dropout_before, dropout_last;
  float eps, keep, momentum, decay, rate;  // rate: the dropout rate
};
}

namespace {

struct Net {
  Spec spec;
  V* memory;
  V *w[5], *b[5], *dw[2], *db[2], *vw[5], *vb[5], *vnorm[4];
  Norm norm[4];
  V *x, *z1, *a1, *p1, *z2, *a2, *p2, *z3, *a3, *z4, *a4, *logits;
  V *dlogits, *da4, *dz4, *da3, *dz3, *dp2, *padded, *keep3, *keep4;
  I active;
};

// Hands out pieces of one block; run once without memory to learn its size.
struct Bump {
  V* base;
  size_t used = 0;
  V* take(size_t count) {
    V* piece = base ? base + used : nullptr;
    used += count;
    return piece;
  }
};

size_t lay_out(Net& net, V* memory) {
  Bump from{memory};
  const size_t n = size_t(net.spec.batch < TILE ? TILE : net.spec.batch);
  const bool momentum = net.spec.momentum != 0.0f;
  for (int l = 0; l < 5; ++l) {
    net.w[l] = from.take(SIZES[l]);
    net.b[l] = from.take(OUTS[l]);
    net.vw[l] = momentum ? from.take(SIZES[l]) : nullptr;
    net.vb[l] = momentum ? from.take(OUTS[l]) : nullptr;
  }
  for (int l = 0; l < 4; ++l) {
    Norm& norm = net.norm[l];
    const int C = norm.channels = CHANNELS[l];
    V** parts[] = {&norm.gamma, &norm.beta,  &norm.running_mean, &norm.running_var, &norm.mean,
                   &norm.inverse, &norm.scale, &norm.shift,        &norm.sum_dy, &norm.sum_dy_xhat};
    for (V** part : parts) *part = from.take(C);
    norm.moments = reinterpret_cast<Moments*>(from.take(C * (sizeof(Moments) / sizeof(V) + 1)));
    net.vnorm[l] = momentum ? from.take(2 * C) : nullptr;
  }
  for (int l = 0; l < 2; ++l) {
    net.dw[l] = from.take(SIZES[l]);
    net.db[l] = from.take(OUTS[l]);
  }
  net.x = from.take(784);
  net.a1 = from.take(Z1);
  net.a2 = from.take(Z2);
  net.padded = from.take(16 * 8 * 16);
  net.z1 = from.take(n * Z1);
  net.p1 = from.take(n * P1);
  net.z2 = from.take(n * Z2);
  net.p2 = from.take(n * P2);
  net.dp2 = from.take(n * P2);
  V** hidden[] = {&net.z3, &net.a3, &net.da3, &net.dz3, &net.keep3};
  for (V** part : hidden) *part = from.take(n * 120);
  V** last[] = {&net.z4, &net.a4, &net.da4, &net.dz4, &net.keep4};
  for (V** part : last) *part = from.take(n * 84);
  net.logits = from.take(n * 10);
  net.dlogits = from.take(n * 10);
  return from.used;
}

// One image of each lane, bytes to 0..1
void gather(const uint8_t* const* image, V* x) {
  for (int p = 0; p < 784; ++p) {
    V pixel;
    for (int lane = 0; lane < LANES; ++lane) pixel[lane] = float(image[lane][p]);
    x[p] = pixel / 255.0f;
  }
}

// y, or z itself without normalization
V normalized(const Net& net, int layer, int c, V z) {
  return net.spec.normed ? net.norm[layer].scale[c] * z + net.norm[layer].shift[c] : z;
}

// p[c][y][x] = mean of activate(y) over 2 x 2
template <int ACT, int C, int SIDE> void activate_and_pool(const Net& net, int l, const V* z, V* p) {
  for (int c = 0; c < C; ++c)
    for (int y = 0; y < SIDE; y += 2)
      for (int x = 0; x < SIDE; x += 2) {
        const V* corner = z + (c * SIDE + y) * SIDE + x;
        V sum = activate<ACT>(normalized(net, l, c, corner[0]));
        sum += activate<ACT>(normalized(net, l, c, corner[1]));
        sum += activate<ACT>(normalized(net, l, c, corner[SIDE]));
        sum += activate<ACT>(normalized(net, l, c, corner[SIDE + 1]));
        *p++ = sum * 0.25f;
      }
}

// dy of one value: a quarter of the pooled gradient times the slope of the activation
template <int ACT> V pooled_gradient(const Net& net, int l, int c, V z, V dp) {
  const V y = normalized(net, l, c, z);
  return dp * 0.25f * slope<ACT>(y, activate<ACT>(y));
}

// Adds sum dy and sum dy x_hat of one image to the layer's
template <int ACT, int C, int SIDE> void sum_gradients(Net& net, int l, const V* z, const V* dp) {
  Norm& norm = net.norm[l];
  for (int c = 0; c < C; ++c) {
    V total = {}, along = {};
    for (int y = 0; y < SIDE; ++y) {
      V row = {}, row_along = {};  // short sums lose fewer digits
      for (int x = 0; x < SIDE; ++x) {
        const V value = z[(c * SIDE + y) * SIDE + x];
        const V from = dp[(c * SIDE / 2 + y / 2) * (SIDE / 2) + x / 2];
        const V dy = pooled_gradient<ACT>(net, l, c, value, from);
        row += dy;
        row_along += dy * (value - norm.mean[c]);
      }
      total += row;
      along += row_along;
    }
    norm.sum_dy[c] += total;
    norm.sum_dy_xhat[c] += along * norm.inverse[c];
  }
}

// dz of one image; m values in a channel of the batch
template <int ACT, int C, int SIDE>
void unpool(const Net& net, int l, const V* z, const V* dp, float m, V* dz) {
  for (int c = 0; c < C; ++c)
    for (int y = 0; y < SIDE; ++y)
      for (int x = 0; x < SIDE; ++x) {
        const int place = (c * SIDE + y) * SIDE + x;
        const V from = dp[(c * SIDE / 2 + y / 2) * (SIDE / 2) + x / 2];
        const V dy = pooled_gradient<ACT>(net, l, c, z[place], from);
        dz[place] = net.spec.normed ? net.norm[l].gradient(c, z[place], dy, m) : dy;
      }
}

// Dropout: masks of 0 and 1 / (1 - rate), one number a unit and lane
void keep_mask(const uint8_t* kept, V* mask, size_t count, float grow) {
  for (size_t p = 0; p < count; ++p)
    for (int lane = 0; lane < LANES; ++lane) mask[p][lane] = kept[p * LANES + lane] ? grow : 0.0f;
}

// A hidden linear layer behind its weights: dropout, normalization, activation, dropout
template <int ACT>
void hidden(Net& net, int l, V* z, V* a, const V* before, const V* after, int n, bool training) {
  const int C = CHANNELS[l];
  Norm& norm = net.norm[l];
  if (before)
    for (int p = 0; p < n * C; ++p) z[p] *= before[p];
  if (net.spec.normed && training) {
    for (int c = 0; c < C; ++c) {
      norm.moments[c].clear();
      merge_values(norm.moments[c], z + c, n, C);
    }
    norm.from_batch(net.spec.eps, net.spec.keep, net.spec.unbiased, net.active);
  }
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < C; ++c) {
      const int p = i * C + c;
      a[p] = activate<ACT>(normalized(net, l, c, z[p]));
      if (after) a[p] *= after[p];
    }
}

// dz from da, and the gradients of gamma and beta
template <int ACT>
void hidden_gradient(Net& net, int l, const V* z, const V* da, V* dz, const V* before,
                     const V* after, int n) {
  const int C = CHANNELS[l];
  Norm& norm = net.norm[l];
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < C; ++c) {
      const int p = i * C + c;
      const V y = normalized(net, l, c, z[p]);
      dz[p] = (after ? da[p] * after[p] : da[p]) * slope<ACT>(y, activate<ACT>(y));
      if (net.spec.normed) {
        norm.sum_dy[c] += dz[p];
        norm.sum_dy_xhat[c] += dz[p] * (z[p] - norm.mean[c]) * norm.inverse[c];
      }
    }
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < C; ++c) {
      const int p = i * C + c;
      if (net.spec.normed) dz[p] = norm.gradient(c, z[p], dz[p], float(n));
      if (before) dz[p] *= before[p];
    }
}

// Cross-entropy of each lane's image with its label; fills dlogits with the gradient of the mean
void cross_entropy(Net& net, const uint8_t* const* labels, int n, float* loss, int32_t* correct,
                   bool gradient) {
  double total[LANES] = {};
  int right[LANES] = {};
  for (int i = 0; i < n; ++i) {
    const V* z = net.logits + i * 10;
    V highest = z[0];
    for (int k = 1; k < 10; ++k) highest = choose(z[k] > highest, z[k], highest);
    V e[10], sum = {};
    for (int k = 0; k < 10; ++k) sum += e[k] = exponential(z[k] - highest);
    for (int lane = 0; lane < LANES; ++lane) {
      const int label = labels[lane][i];
      int best = 0;
      for (int k = 1; k < 10; ++k)
        if (z[k][lane] > z[best][lane]) best = k;
      right[lane] += best == label;
      total[lane] += std::log(sum[lane]) + highest[lane] - z[label][lane];
    }
    if (!gradient) continue;
    for (int k = 0; k < 10; ++k) {
      V d = e[k] / sum;
      for (int lane = 0; lane < LANES; ++lane) d[lane] -= labels[lane][i] == k ? 1.0f : 0.0f;
      net.dlogits[i * 10 + k] = d / float(n);
    }
  }
  for (int lane = 0; lane < LANES; ++lane) {
    loss[lane] = float(total[lane] / n);
    correct[lane] = right[lane];
  }
}

template <int C, int SIDE> void count_moments(Norm& norm, const V* z) {
  for (int c = 0; c < C; ++c) merge_values(norm.moments[c], z + c * SIDE * SIDE, SIDE * SIDE, 1);
}

// A training step on n images a lane; image and label pointers [lane][n]
template <int ACT>
void train_step(Net& net, const uint8_t* const* images, const uint8_t* const* labels, int n,
                const float* rates, const uint8_t* kept3, const uint8_t* kept4, float* loss,
                int32_t* correct) {
  const Spec& spec = net.spec;
  const bool normed = spec.normed;
  const uint8_t* lane_image[LANES];
  auto load = [&](int i) {
    for (int lane = 0; lane < LANES; ++lane) lane_image[lane] = images[lane * n + i];
    gather(lane_image, net.x);
  };

  for (int l = 0; normed && l < 2; ++l)
    for (int c = 0; c < CHANNELS[l]; ++c) net.norm[l].moments[c].clear();
  for (int i = 0; i < n; ++i) {
    load(i);
    V* z = net.z1 + size_t(i) * Z1;
    convolve<1, 6, 28, 6>(net.x, net.w[0], net.b[0], z);
    if (normed) count_moments<6, 24>(net.norm[0], z);
    else activate_and_pool<ACT, 6, 24>(net, 0, z, net.p1 + size_t(i) * P1);
  }
  if (normed) net.norm[0].from_batch(spec.eps, spec.keep, spec.unbiased, net.active);
  for (int i = 0; i < n; ++i) {
    V *p = net.p1 + size_t(i) * P1, *z = net.z2 + size_t(i) * Z2;
    if (normed) activate_and_pool<ACT, 6, 24>(net, 0, net.z1 + size_t(i) * Z1, p);
    convolve<6, 16, 12, 4>(p, net.w[1], net.b[1], z);
    if (normed) count_moments<16, 8>(net.norm[1], z);
  }
  if (normed) net.norm[1].from_batch(spec.eps, spec.keep, spec.unbiased, net.active);
  for (int i = 0; i < n; ++i)
    activate_and_pool<ACT, 16, 8>(net, 1, net.z2 + size_t(i) * Z2, net.p2 + size_t(i) * P2);

  const float grow = 1.0f / (1.0f - spec.rate);
  if (kept3) keep_mask(kept3, net.keep3, size_t(n) * 120, grow);
  if (kept4) keep_mask(kept4, net.keep4, size_t(n) * 84, grow);
  const V *mask3 = kept3 ? net.keep3 : nullptr, *mask4 = kept4 ? net.keep4 : nullptr;
  const V *before3 = spec.dropout_before ? mask3 : nullptr,
          *before4 = spec.dropout_before ? mask4 : nullptr;
  const V *after3 = spec.dropout_hidden ? mask3 : nullptr,
          *after4 = spec.dropout_hidden || spec.dropout_last ? mask4 : nullptr;
  linear(net.p2, net.w[2], net.b[2], net.z3, n, 256, 120);
  hidden<ACT>(net, 2, net.z3, net.a3, before3, after3, n, true);
  linear(net.a3, net.w[3], net.b[3], net.z4, n, 120, 84);
  hidden<ACT>(net, 3, net.z4, net.a4, before4, after4, n, true);
  linear(net.a4, net.w[4], net.b[4], net.logits, n, 84, 10);
  cross_entropy(net, labels, n, loss, correct, true);

  Step step{V{}, spec.decay, spec.momentum, net.active};
  for (int lane = 0; lane < LANES; ++lane) {
    step.rate[lane] = rates[lane];
    if (!std::isfinite(loss[lane])) net.active[lane] = step.active[lane] = 0;
  }
  V* const none = nullptr;
  linear_input_gradient(net.dlogits, net.w[4], net.da4, n, 84, 10);
  linear_step(net.a4, net.dlogits, net.w[4], net.b[4], net.vw[4], net.vb[4], n, 84, 10, step);
  hidden_gradient<ACT>(net, 3, net.z4, net.da4, net.dz4, before4, after4, n);
  linear_input_gradient(net.dz4, net.w[3], net.da3, n, 120, 84);
  linear_step(net.a3, net.dz4, net.w[3], spec.bias ? net.b[3] : none, net.vw[3], net.vb[3], n, 120,
              84, step);
  hidden_gradient<ACT>(net, 2, net.z3, net.da3, net.dz3, before3, after3, n);
  linear_input_gradient(net.dz3, net.w[2], net.dp2, n, 256, 120);
  linear_step(net.p2, net.dz3, net.w[2], spec.bias ? net.b[2] : none, net.vw[2], net.vb[2], n, 256,
              120, step);

  for (int l = 0; l < 2; ++l) {
    std::memset(net.dw[l], 0, sizeof(V) * SIZES[l]);
    std::memset(net.db[l], 0, sizeof(V) * OUTS[l]);
  }
  for (int i = 0; normed && i < n; ++i)
    sum_gradients<ACT, 16, 8>(net, 1, net.z2 + size_t(i) * Z2, net.dp2 + size_t(i) * P2);
  for (int i = 0; i < n; ++i) {
    V* p = net.p1 + size_t(i) * P1;
    unpool<ACT, 16, 8>(net, 1, net.z2 + size_t(i) * Z2, net.dp2 + size_t(i) * P2, 64.0f * n, net.a2);
    convolve_weight_gradient<6, 16, 12, 4>(p, net.a2, net.dw[1], net.db[1]);
    convolve_input_gradient<6, 16, 12>(net.a2, net.w[1], net.padded, p);  // dp1 takes p1's place
    if (normed) sum_gradients<ACT, 6, 24>(net, 0, net.z1 + size_t(i) * Z1, p);
  }
  for (int i = 0; i < n; ++i) {
    load(i);
    unpool<ACT, 6, 24>(net, 0, net.z1 + size_t(i) * Z1, net.p1 + size_t(i) * P1, 576.0f * n, net.a1);
    convolve_weight_gradient<1, 6, 28, 3>(net.x, net.a1, net.dw[0], net.db[0]);
  }
  for (int l = 0; l < 2; ++l) {
    for (int p = 0; p < SIZES[l]; ++p)
      step.update(net.w[l] + p, net.vw[l] ? net.vw[l] + p : nullptr, net.dw[l][p]);
    for (int o = 0; spec.bias && o < OUTS[l]; ++o)
      step.update(net.b[l] + o, net.vb[l] ? net.vb[l] + o : nullptr, net.db[l][o]);
  }
  for (int l = 0; normed && l < 4; ++l) net.norm[l].step(step, net.vnorm[l]);
}

// Evaluation: the same images for every lane, one at a time, by running statistics.
// Stops after normalization layer `until` (0..3) has been fed; 4 goes to the logits.
template <int ACT> void evaluate_image(Net& net, const uint8_t* image, int until) {
  for (int p = 0; p < 784; ++p) net.x[p] = all(float(image[p])) / 255.0f;
  convolve<1, 6, 28, 6>(net.x, net.w[0], net.b[0], net.z1);
  if (until == 0) return count_moments<6, 24>(net.norm[0], net.z1);
  activate_and_pool<ACT, 6, 24>(net, 0, net.z1, net.p1);
  convolve<6, 16, 12, 4>(net.p1, net.w[1], net.b[1], net.z2);
  if (until == 1) return count_moments<16, 8>(net.norm[1], net.z2);
  activate_and_pool<ACT, 16, 8>(net, 1, net.z2, net.p2);
}

template <int ACT>
void evaluate_tile(Net& net, const uint8_t* images, int n, int until) {
  V* pooled = net.p2;
  for (int i = 0; i < n; ++i) {
    net.p2 = pooled + size_t(i) * P2;
    evaluate_image<ACT>(net, images + size_t(i) * 784, until);
  }
  net.p2 = pooled;
  if (until < 2) return;
  linear(net.p2, net.w[2], net.b[2], net.z3, n, 256, 120);
  if (until == 2) {
    for (int c = 0; c < 120; ++c) merge_values(net.norm[2].moments[c], net.z3 + c, n, 120);
    return;
  }
  hidden<ACT>(net, 2, net.z3, net.a3, nullptr, nullptr, n, false);
  linear(net.a3, net.w[3], net.b[3], net.z4, n, 120, 84);
  if (until == 3) {
    for (int c = 0; c < 84; ++c) merge_values(net.norm[3].moments[c], net.z4 + c, n, 84);
    return;
  }
  hidden<ACT>(net, 3, net.z4, net.a4, nullptr, nullptr, n, false);
  linear(net.a4, net.w[4], net.b[4], net.logits, n, 84, 10);
}

template <int ACT>
void evaluate_all(Net& net, const uint8_t* images, const uint8_t* labels, int64_t count,
                  double* loss, int64_t* correct) {
  for (int l = 0; net.spec.normed && l < 4; ++l) net.norm[l].from_running(net.spec.eps);
  for (int64_t i = 0; i < count; i += TILE) {
    const int n = int(count - i < TILE ? count - i : TILE);
    evaluate_tile<ACT>(net, images + i * 784, n, 4);
    const uint8_t* lane_labels[LANES];
    for (auto& each : lane_labels) each = labels + i;
    float mean[LANES];
    int32_t right[LANES];
    cross_entropy(net, lane_labels, n, mean, right, false);
    for (int lane = 0; lane < LANES; ++lane) {
      loss[lane] += double(mean[lane]) * n;
      correct[lane] += right[lane];
    }
  }
}

// Running statistics become the moments of each layer's input over all images,
// layer by layer, the layers before already normalizing by theirs.
template <int ACT> void population(Net& net, const uint8_t* images, int64_t count) {
  for (int l = 0; l < 4; ++l) {
    Norm& norm = net.norm[l];
    for (int c = 0; c < norm.channels; ++c) norm.moments[c].clear();
    for (int64_t i = 0; i < count; i += TILE)
      evaluate_tile<ACT>(net, images + i * 784, int(count - i < TILE ? count - i : TILE), l);
    for (int c = 0; c < norm.channels; ++c)
      for (int lane = 0; lane < LANES; ++lane) {
        norm.running_mean[c][lane] = float(norm.moments[c].mean[lane]);
        norm.running_var[c][lane] = float(norm.moments[c].squares[lane] / norm.moments[c].count);
      }
    norm.from_running(net.spec.eps);
  }
}


}  // namespace

extern "C" {

int32_t lockstep_lanes() { return LANES; }

// Null if there is no memory for it.
void* lockstep_create(const Spec* spec) {
  Net* net = new (std::nothrow) Net;
  if (!net) return nullptr;
  std::memset(static_cast<void*>(net), 0, sizeof *net);
  net->spec = *spec;
  const size_t count = lay_out(*net, nullptr);
  net->memory = static_cast<V*>(std::aligned_alloc(64, count * sizeof(V)));
  if (!net->memory) {
    delete net;
    return nullptr;
  }
  std::memset(net->memory, 0, count * sizeof(V));
  lay_out(*net, net->memory);
  net->active = I{} - 1;
  return net;
}

void lockstep_free(void* handle) {
  Net* net = static_cast<Net*>(handle);
  std::free(net->memory);
  delete net;
}

// Parameters and buffers, [numbers][lane]: 0-4 weights, 5-9 biases, then for each
// normalization layer gamma, beta, running mean, running variance (10 + 4 layer + part).
float* lockstep_array(void* handle, int32_t which) {
  Net* net = static_cast<Net*>(handle);
  if (which < 5) return reinterpret_cast<float*>(net->w[which]);
  if (which < 10) return reinterpret_cast<float*>(net->b[which - 5]);
  Norm& norm = net->norm[(which - 10) / 4];
  V* parts[] = {norm.gamma, norm.beta, norm.running_mean, norm.running_var};
  return reinterpret_cast<float*>(parts[(which - 10) % 4]);
}

// Batches first..last of an epoch whose order is [lane][n]; losses and correct are
// [batch][lane].  kept3 and kept4, if any, are the masks of the first batch alone.
void lockstep_train(void* handle, const uint8_t* images, const uint8_t* labels,
                    const int64_t* order, int64_t n, int32_t first, int32_t last,
                    const float* rates, const uint8_t* kept3, const uint8_t* kept4, float* losses,
                    int32_t* correct) {
  Net* net = static_cast<Net*>(handle);
  const int batch = net->spec.batch;
  const uint8_t** where = new const uint8_t*[size_t(LANES) * batch];
  uint8_t* mine = new uint8_t[size_t(LANES) * batch];
  const uint8_t* lane_labels[LANES];
  for (int32_t b = first; b < last; ++b) {
    const int64_t start = int64_t(b) * batch;
    const int count = int(n - start < batch ? n - start : batch);
    for (int lane = 0; lane < LANES; ++lane) {
      lane_labels[lane] = mine + lane * count;
      for (int i = 0; i < count; ++i) {
        const int64_t image = order[lane * n + start + i];
        where[lane * count + i] = images + image * 784;
        mine[lane * count + i] = labels[image];
      }
    }
    const size_t row = size_t(b - first) * LANES;
    const float* rate = rates + row;
#define TRAIN(ACT) train_step<ACT>(*net, where, lane_labels, count, rate, kept3, kept4, losses + row, correct + row)
    switch (net->spec.activation) {
      case SIGMOID: TRAIN(SIGMOID); break;
      case RELU: TRAIN(RELU); break;
      default: TRAIN(TANH);
    }
#undef TRAIN
  }
  delete[] where;
  delete[] mine;
}

void lockstep_evaluate(void* handle, const uint8_t* images, const uint8_t* labels, int64_t count,
                       double* loss, int64_t* correct) {
  Net* net = static_cast<Net*>(handle);
  switch (net->spec.activation) {
    case SIGMOID: evaluate_all<SIGMOID>(*net, images, labels, count, loss, correct); break;
    case RELU: evaluate_all<RELU>(*net, images, labels, count, loss, correct); break;
    default: evaluate_all<TANH>(*net, images, labels, count, loss, correct);
  }
}

void lockstep_population(void* handle, const uint8_t* images, int64_t count) {
  Net* net = static_cast<Net*>(handle);
  switch (net->spec.activation) {
    case SIGMOID: population<SIGMOID>(*net, images, count); break;
    case RELU: population<RELU>(*net, images, count); break;
    default: population<TANH>(*net, images, count);
  }
}
}
