// Batch normalization and its relatives, for arrays [N][C][POSITIONS] of V.
//
//   x_hat = (x - mean) inverse,   y = scale x_hat + offset
//   dx = inverse (scale dy - mean(scale dy) - x_hat mean(scale dy x_hat))
//
// with inverse = 1 / sqrt(var + eps), the means over the values of a channel.  What the
// relatives change (see bnstudy.networks.norm, whose conventions these are):
//   ghost       moments of consecutive sub-batches
//   population  scale = gamma r, offset = gamma d + beta, which replaces the batch's moments
//               by the moving ones, and leaves the two means in the gradient
//   frozen      mean and inverse of the moving moments, no means in the gradient
//   noisy       s y + m, with s and m drawn for each image and channel
//   group       moments of each image by groups of channels, in evaluation too
//   mean-only   inverse = 1, no second mean in the gradient
//   variance-only  offset = gamma mean inverse + beta, which undoes the centring; no first
//               mean in the gradient, and dy times the uncentred x in the second
#pragma once

#include <cmath>
#include <cstring>

#include "linear.hpp"
#include "vector.hpp"

namespace lockstep {

enum NormKind { BATCH, GHOST, POPULATION, FROZEN, NOISY, GROUP, MEAN_ONLY, VARIANCE_ONLY, ABSENT };

// Mean and sum of squared deviations, merged in double precision (Chan, Golub & LeVeque
// 1983), so that a mean far from zero costs no digits.
struct Moments {
  D mean, squares;
  double count;

  // Weights of `more` values beside those there are
  struct Weights {
    double total, of_mean, of_squares;
  };
  Weights weights(double more) const {
    const double total = count + more;
    return {total, more / total, count * more / total};
  }

  void merge(D m, D q, const Weights& by) {
    const D delta = m - mean;
    mean += delta * by.of_mean;
    squares += q + delta * delta * by.of_squares;
    count = by.total;
  }

  D variance() const { return squares / count; }
};

// Coefficients of one channel of one image, forward and backward.
struct ChannelCoefficients {
  V mean, inverse, scale, offset;  // y = scale x_hat + offset
  V gain;                          // of the noise: y = gain (gamma x_hat + beta) + ...
  V dy_scale, dy_mean, dy_xhat_mean;         // dx = dy_scale dy - dy_mean - x_hat dy_xhat_mean

  static ChannelCoefficients identity() {
    const V one = broadcast(1.0f);
    return {V{}, one, one, V{}, one, one, V{}, V{}};
  }

  V normalized(V x) const { return (x - mean) * inverse; }
  V gradient(V dy, V x_hat) const { return dy_scale * dy - dy_mean - x_hat * dy_xhat_mean; }
};

struct Normalization {
  NormKind kind;
  int channels, positions, ghost_size, groups;
  double eps, keep;  // keep: the weight of the old moving value
  bool unbiased, learns_gamma, learns_beta;
  int64_t steps;                         // of training so far
  Parameter gamma, beta;                 // [C]
  V *running_mean, *running_var;         // [C]
  V *gains, *shifts;                     // noise [N][C]
  bool noisy;                            // whether to apply it
  ChannelCoefficients* channel;          // [subbatches][C]
  V *r, *d;                              // [subbatches][C]: y = gamma (r x_hat + d) + beta
  Moments* moments;                      // [subbatches][C]
  D *dy, *dy_xhat;                       // [subbatches][C], sums over the batch
  V* gradients;                          // of gamma and beta: [2][C]
  int subbatches;

  // Whether a pass normalizes by moments of its own images
  bool takes_moments(bool training) const { return kind == GROUP || (training && kind != ABSENT); }

  // A sub-batch that would hold one image joins the one before it.
  int subbatches_of(int images) const {
    if (kind == GROUP) return images;
    if (kind != GHOST) return 1;
    const int count = (images + ghost_size - 1) / ghost_size;
    return count > 1 && images % ghost_size == 1 ? count - 1 : count;
  }

  void reset(int count) {
    subbatches = count;
    std::memset(static_cast<void*>(moments), 0, sizeof(Moments) * subbatches * channels);
    std::memset(static_cast<void*>(dy), 0, sizeof(D) * subbatches * channels);
    std::memset(static_cast<void*>(dy_xhat), 0, sizeof(D) * subbatches * channels);
  }

  int subbatch_of(int image) const {
    return subbatches == 1 ? 0 : kind == GROUP ? image : std::min(image / ghost_size, subbatches - 1);
  }

  // The first of the channels that share moments, under which these are stored
  int first(int c) const { return kind == GROUP ? c - c % (channels / groups) : c; }

  // Weights of one image's moments beside those of the images before it in its sub-batch: the
  // same for all channels, unless some share their moments.  Divisions are slow.
  Moments::Weights weights_of(int image) const {
    return moments[subbatch_of(image) * channels].weights(positions);
  }

  // Add the moments of one channel x [POSITIONS] of an image
  void add_channel(int image, int c, const V* x, const Moments::Weights& common) {
    Moments& to = moments[subbatch_of(image) * channels + first(c)];
    // about the first value: differences keep their digits where the mean is large
    const V start = x[0];
    const V sum = sum_of([=](int p) { return x[p] - start; });
    const D mean = to_double(start) + to_double(sum) / positions;
    const V near = to_single(mean);
    const V squares = sum_of([=](int p) { return (x[p] - near) * (x[p] - near); });
    to.merge(mean, to_double(squares), kind == GROUP ? to.weights(positions) : common);
  }

  // Add the moments of one image x [C][POSITIONS]
  void add_image(int image, const V* x) {
    const Moments::Weights common = weights_of(image);
    for (int c = 0; c < channels; ++c, x += positions) add_channel(image, c, x, common);
  }

  // Sum of f(position) in four parts, whose additions need not wait for each other
  template <typename F> V sum_of(F f) const {
    V sum[4] = {};
    int p = 0;
    for (; p + 4 <= positions; p += 4)
      UNROLL for (int k = 0; k < 4; ++k) sum[k] += f(p + k);
    for (; p < positions; ++p) sum[0] += f(p);
    return sum[0] + sum[1] + (sum[2] + sum[3]);
  }

  // All images are added: move the moving moments, and set the coefficients of all sub-batches.
  void finish_moments(I active) {
    ++steps;
    // the weights of the first `steps` batches sum to 1 - keep^steps: without the initial values
    const bool bias_free = kind == POPULATION || kind == FROZEN;
    const double start = keep < 1 ? (1.0 - keep) / (1.0 - std::pow(keep, steps)) : 1.0 / steps;
    const double fresh = bias_free ? start : 1.0 - keep;
    for (int c = 0; c < channels && kind != GROUP; ++c) {
      D mean = {}, var = {};
      double all_images = 0;
      for (int g = 0; g < subbatches; ++g) all_images += moments[g * channels + c].count;
      for (int g = 0; g < subbatches; ++g) {
        const Moments& found = moments[g * channels + c];
        const double share = found.count / all_images;
        const double bessel = unbiased ? found.count / (found.count - 1) : 1.0;
        mean += found.mean * share;
        var += found.variance() * (bessel * share);
      }
      move(running_mean[c], mean, fresh, active);
      move(running_var[c], var, fresh, active);
    }
    for (int c = 0; c < channels; ++c)
      for (int g = 0; g < subbatches; ++g) {
        const Moments& found = moments[g * channels + first(c)];
        set_training(g, c, found.mean, found.variance());
      }
  }

  static void move(V& moving, D value, double fresh, I active) {
    moving = select(active, to_single(to_double(moving) * (1.0 - fresh) + value * fresh), moving);
  }

  void set_training(int g, int c, D mean, D var) {
    const D moving_mean = to_double(running_mean[c]), sigma = divisor(to_double(running_var[c]));
    V& ratio = r[g * channels + c] = broadcast(1.0f);
    V& difference = d[g * channels + c] = V{};
    if (kind == POPULATION) {
      ratio = to_single(divisor(var) / sigma);
      difference = to_single((mean - moving_mean) / sigma);
    }
    if (kind == VARIANCE_ONLY) difference = to_single(mean / divisor(var));
    const bool frozen = kind == FROZEN;
    set(g, c, frozen ? moving_mean : mean, frozen ? sigma : divisor(var), ratio, difference);
  }

  D divisor(D var) const { return kind == MEAN_ONLY ? D{} + 1.0 : root(var + eps); }

  void set(int g, int c, D mean, D sigma, V ratio, V difference) {
    ChannelCoefficients& to = channel[g * channels + c];
    to.mean = to_single(mean);
    to.inverse = to_single(1.0 / sigma);
    to.scale = gamma.value[c] * ratio;
    to.offset = gamma.value[c] * difference + beta.value[c];
    to.gain = broadcast(1.0f);
    to.dy_scale = to.scale * to.inverse;
    to.dy_mean = to.dy_xhat_mean = V{};
  }

  // Set the coefficients for evaluation: by the running statistics
  void set_evaluation() {
    subbatches = 1;
    for (int c = 0; c < channels; ++c) {
      const D mean = kind == VARIANCE_ONLY ? D{} : to_double(running_mean[c]);
      set(0, c, mean, divisor(to_double(running_var[c])), broadcast(1.0f), V{});
    }
  }

  // Make the moments of all images added since reset() the running statistics
  void store_population() {
    for (int c = 0; c < channels; ++c) {
      running_mean[c] = to_single(moments[c].mean);
      running_var[c] = to_single(moments[c].variance());
    }
    set_evaluation();
  }

  ChannelCoefficients at(int image, int c) const {
    ChannelCoefficients found = channel[subbatch_of(image) * channels + c];
    if (noisy) {
      found.gain = gains[image * channels + c];
      found.scale *= found.gain;
      found.offset = found.offset * found.gain + shifts[image * channels + c];
    }
    return found;
  }

  void add_gradient(int image, int c, V sum_dy, V sum_dy_xhat) {
    const int at = subbatch_of(image) * channels + c;
    dy[at] += to_double(sum_dy);
    dy_xhat[at] += to_double(sum_dy_xhat);
  }

  // The sums over the batch are complete: set their means for gradient(), and step gamma and beta.
  //   dgamma = sum dy (r x_hat + d),  dbeta = sum dy
  void finish_gradient(const Sgd& sgd) {
    for (int c = 0; c < channels; ++c) {
      D dgamma = {}, dbeta = {};
      for (int g = 0; g < subbatches; ++g) {
        const int at = g * channels + c;
        dgamma += dy_xhat[at] * to_double(r[at]) + dy[at] * to_double(d[at]);
        dbeta += dy[at];
      }
      for (int g = 0; g < subbatches && kind != FROZEN; ++g) set_gradient_means(g, c);
      gradients[c] = to_single(dgamma), gradients[channels + c] = to_single(dbeta);
    }
    // in a loop of its own: group normalization reads other channels' gamma in the one above
    for (int c = 0; c < channels; ++c) {
      if (learns_gamma) gamma.step(sgd, c, gradients[c]);
      if (learns_beta) beta.step(sgd, c, gradients[channels + c]);
    }
  }

  void set_gradient_means(int g, int c) {
    ChannelCoefficients& to = channel[g * channels + c];
    const int lead = g * channels + first(c), size = kind == GROUP ? channels / groups : 1;
    D sum = {}, sum_xhat = {};
    for (int at = lead; at < lead + size; ++at) {
      sum += to_double(channel[at].scale) * dy[at];
      sum_xhat += to_double(channel[at].scale) * dy_xhat[at];
    }
    if (kind == VARIANCE_ONLY) sum_xhat += to_double(d[lead]) * sum;
    const D each = to_double(to.inverse) / moments[lead].count;
    to.dy_mean = kind == VARIANCE_ONLY ? V{} : to_single(each * sum);
    to.dy_xhat_mean = kind == MEAN_ONLY ? V{} : to_single(each * sum_xhat);
  }

  // The layer by itself, where it is not part of a convolution block.
  void forward(const V* x, V* y, int images) const {
    for (int n = 0; n < images; ++n)
      for (int c = 0; c < channels; ++c) {
        const ChannelCoefficients by = at(n, c);
        for (int p = 0; p < positions; ++p) *y++ = by.scale * by.normalized(*x++) + by.offset;
      }
  }

  // dy becomes dx, in place
  void backward(const V* x, V* gradient, int images, const Sgd& sgd) {
    const size_t plane = positions;
    for (int n = 0; n < images; ++n)
      for (int c = 0; c < channels; ++c) {
        const ChannelCoefficients by = at(n, c);
        const size_t from = (size_t(n) * channels + c) * plane;
        V sum = {}, sum_xhat = {};
        for (size_t p = from; p < from + plane; ++p) {
          gradient[p] *= by.gain;
          sum += gradient[p];
          sum_xhat += gradient[p] * by.normalized(x[p]);
        }
        add_gradient(n, c, sum, sum_xhat);
      }
    finish_gradient(sgd);
    for (int n = 0; n < images; ++n)
      for (int c = 0; c < channels; ++c) {
        const ChannelCoefficients by = at(n, c);
        const size_t from = (size_t(n) * channels + c) * plane;
        for (size_t p = from; p < from + plane; ++p)
          gradient[p] = by.gradient(gradient[p], by.normalized(x[p]));
      }
  }
};

}  // namespace lockstep
