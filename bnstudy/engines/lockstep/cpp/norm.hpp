// Batch normalization and its relatives, for arrays [N][C][POSITIONS] of V.
//
//   x_hat = (x - mean) inverse,   y = scale x_hat + offset
//   dx = inverse (scale dy - mean(scale dy) - x_hat mean(scale dy x_hat))
//
// with inverse = 1 / sqrt(var + eps), the means over the values of a channel.  What the
// relatives change (see bnstudy.networks.norm, whose conventions these are):
//   ghost       moments by consecutive parts of the batch
//   population  scale = gamma r, offset = gamma d + beta, which puts the moving moments
//               in place of the batch's, and leaves the gradient its two means
//   frozen      mean and inverse of the moving moments, and no means in the gradient
//   noisy       s y + m, with s and m drawn for each image and channel
//   group       moments of each image by groups of channels, in evaluation too
//   mean-only   inverse = 1, and no second mean in the gradient
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

  void merge(D m, D q, double more) {
    const double total = count + more;
    const D delta = m - mean;
    mean += delta * (more / total);
    squares += q + delta * delta * (count * more / total);
    count = total;
  }

  D variance() const { return squares / count; }
};

// What one channel of one image is normalized by.
struct Channel {
  V mean, inverse, scale, offset;  // y = scale x_hat + offset
  V gain;                          // of the noise: y = gain (gamma x_hat + beta) + ...
  V back, pull, pull_xhat;         // dx = back dy - pull - x_hat pull_xhat

  static Channel identity() {
    const V one = all(1.0f);
    return {V{}, one, one, V{}, one, one, V{}, V{}};
  }

  V normalized(V x) const { return (x - mean) * inverse; }
  V gradient(V dy, V x_hat) const { return back * dy - pull - x_hat * pull_xhat; }
};

struct Norm {
  NormKind kind;
  int channels, positions, part_size, groups;
  double eps, keep;  // keep: the weight of the old moving value
  bool unbiased, learns_gamma, learns_beta;
  int64_t steps;                         // taken in by population and frozen
  Parameter gamma, beta;                 // [C]
  V *running_mean, *running_var;         // [C]
  V *gains, *shifts;                     // noise [N][C]
  bool noisy;                            // whether to use it
  Channel* channel;                      // [parts][C]
  V *r, *d;                              // [parts][C]: y = gamma (r x_hat + d) + beta
  Moments* moments;                      // [parts][C]
  D *dy, *dy_xhat;                       // [parts][C], sums over the batch
  V* gradients;                          // of gamma and beta: [2][C]
  int parts;

  // Whether a pass takes the moments of its own images
  bool counts(bool training) const { return kind == GROUP || (training && kind != ABSENT); }

  // A part that would hold one image joins the one before it.
  int parts_of(int images) const {
    if (kind == GROUP) return images;
    if (kind != GHOST) return 1;
    const int count = (images + part_size - 1) / part_size;
    return count > 1 && images % part_size == 1 ? count - 1 : count;
  }

  void begin(int parts_now) {
    parts = parts_now;
    std::memset(static_cast<void*>(moments), 0, sizeof(Moments) * parts * channels);
    std::memset(static_cast<void*>(dy), 0, sizeof(D) * parts * channels);
    std::memset(static_cast<void*>(dy_xhat), 0, sizeof(D) * parts * channels);
  }

  int part(int image) const {
    return parts == 1 ? 0 : kind == GROUP ? image : std::min(image / part_size, parts - 1);
  }

  // Of the channels that share moments the first, where these are kept
  int first(int c) const { return kind == GROUP ? c - c % (channels / groups) : c; }

  // Take in the moments of one image x [C][POSITIONS]
  void count(int image, const V* x) {
    Moments* into = moments + part(image) * channels;
    for (int c = 0; c < channels; ++c, x += positions) {
      V sum = {}, squares = {};
      for (int p = 1; p < positions; ++p) sum += x[p] - x[0];
      const D mean = wide(x[0]) + wide(sum) / positions;
      const V near = narrow(mean);
      for (int p = 0; p < positions; ++p) squares += (x[p] - near) * (x[p] - near);
      into[first(c)].merge(mean, wide(squares), positions);
    }
  }

  // All images are in: move the moving moments, and make every part's channels ready.
  void settle(I active) {
    ++steps;
    const bool bias_free = kind == POPULATION || kind == FROZEN;
    const double start = keep < 1 ? (1.0 - keep) / (1.0 - std::pow(keep, steps)) : 1.0 / steps;
    const double fresh = bias_free ? start : 1.0 - keep;
    for (int c = 0; c < channels && kind != GROUP; ++c) {
      D mean = {}, var = {};
      double all_images = 0;
      for (int g = 0; g < parts; ++g) all_images += moments[g * channels + c].count;
      for (int g = 0; g < parts; ++g) {
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
      for (int g = 0; g < parts; ++g) {
        const Moments& found = moments[g * channels + first(c)];
        prepare(g, c, found.mean, found.variance());
      }
  }

  static void move(V& moving, D value, double fresh, I active) {
    moving = choose(active, narrow(wide(moving) * (1.0 - fresh) + value * fresh), moving);
  }

  void prepare(int g, int c, D mean, D var) {
    const D moving_mean = wide(running_mean[c]), sigma = divisor(wide(running_var[c]));
    V& ratio = r[g * channels + c] = all(1.0f);
    V& difference = d[g * channels + c] = V{};
    if (kind == POPULATION) {
      ratio = narrow(divisor(var) / sigma);
      difference = narrow((mean - moving_mean) / sigma);
    }
    if (kind == VARIANCE_ONLY) difference = narrow(mean / divisor(var));
    const bool frozen = kind == FROZEN;
    set(g, c, frozen ? moving_mean : mean, frozen ? sigma : divisor(var), ratio, difference);
  }

  D divisor(D var) const { return kind == MEAN_ONLY ? D{} + 1.0 : root(var + eps); }

  void set(int g, int c, D mean, D sigma, V ratio, V difference) {
    Channel& to = channel[g * channels + c];
    to.mean = narrow(mean);
    to.inverse = narrow(1.0 / sigma);
    to.scale = gamma.value[c] * ratio;
    to.offset = gamma.value[c] * difference + beta.value[c];
    to.gain = all(1.0f);
    to.back = to.scale * to.inverse;
    to.pull = to.pull_xhat = V{};
  }

  // Make ready for evaluation: by the running statistics
  void settle_running() {
    parts = 1;
    for (int c = 0; c < channels; ++c) {
      const D mean = kind == VARIANCE_ONLY ? D{} : wide(running_mean[c]);
      set(0, c, mean, divisor(wide(running_var[c])), all(1.0f), V{});
    }
  }

  // Make the moments of all images counted since begin() the running statistics
  void settle_population() {
    for (int c = 0; c < channels; ++c) {
      running_mean[c] = narrow(moments[c].mean);
      running_var[c] = narrow(moments[c].variance());
    }
    settle_running();
  }

  Channel at(int image, int c) const {
    Channel found = channel[part(image) * channels + c];
    if (noisy) {
      found.gain = gains[image * channels + c];
      found.scale *= found.gain;
      found.offset = found.offset * found.gain + shifts[image * channels + c];
    }
    return found;
  }

  void count_gradient(int image, int c, V sum_dy, V sum_dy_xhat) {
    const int at = part(image) * channels + c;
    dy[at] += wide(sum_dy);
    dy_xhat[at] += wide(sum_dy_xhat);
  }

  // The sums over the batch are in: their means for gradient(), and the step of gamma and beta.
  //   dgamma = sum dy (r x_hat + d),  dbeta = sum dy
  void settle_gradient(const Descent& sgd) {
    for (int c = 0; c < channels; ++c) {
      D dgamma = {}, dbeta = {};
      for (int g = 0; g < parts; ++g) {
        const int at = g * channels + c;
        dgamma += dy_xhat[at] * wide(r[at]) + dy[at] * wide(d[at]);
        dbeta += dy[at];
      }
      for (int g = 0; g < parts && kind != FROZEN; ++g) pull(g, c);
      gradients[c] = narrow(dgamma), gradients[channels + c] = narrow(dbeta);
    }
    for (int c = 0; c < channels; ++c) {  // when no channel needs another's gamma any more
      if (learns_gamma) gamma.step(sgd, c, gradients[c]);
      if (learns_beta) beta.step(sgd, c, gradients[channels + c]);
    }
  }

  void pull(int g, int c) {
    Channel& to = channel[g * channels + c];
    const int lead = g * channels + first(c), size = kind == GROUP ? channels / groups : 1;
    D sum = {}, sum_xhat = {};
    for (int at = lead; at < lead + size; ++at) {
      sum += wide(channel[at].scale) * dy[at];
      sum_xhat += wide(channel[at].scale) * dy_xhat[at];
    }
    if (kind == VARIANCE_ONLY) sum_xhat += wide(d[lead]) * sum;
    const D each = wide(to.inverse) / moments[lead].count;
    to.pull = kind == VARIANCE_ONLY ? V{} : narrow(each * sum);
    to.pull_xhat = kind == MEAN_ONLY ? V{} : narrow(each * sum_xhat);
  }

  // The layer on its own, where it is not part of a fused stage.
  void forward(const V* x, V* y, int images) const {
    for (int n = 0; n < images; ++n)
      for (int c = 0; c < channels; ++c) {
        const Channel by = at(n, c);
        for (int p = 0; p < positions; ++p) *y++ = by.scale * by.normalized(*x++) + by.offset;
      }
  }

  // dy becomes dx, in place
  void backward(const V* x, V* gradient, int images, const Descent& sgd) {
    const size_t plane = positions;
    for (int n = 0; n < images; ++n)
      for (int c = 0; c < channels; ++c) {
        const Channel by = at(n, c);
        const size_t from = (size_t(n) * channels + c) * plane;
        V sum = {}, sum_xhat = {};
        for (size_t p = from; p < from + plane; ++p) {
          gradient[p] *= by.gain;
          sum += gradient[p];
          sum_xhat += gradient[p] * by.normalized(x[p]);
        }
        count_gradient(n, c, sum, sum_xhat);
      }
    settle_gradient(sgd);
    for (int n = 0; n < images; ++n)
      for (int c = 0; c < channels; ++c) {
        const Channel by = at(n, c);
        const size_t from = (size_t(n) * channels + c) * plane;
        for (size_t p = from; p < from + plane; ++p)
          gradient[p] = by.gradient(gradient[p], by.normalized(x[p]));
      }
  }
};

}  // namespace lockstep
