// What every network has for several seeds at once: images, linear layers, loss, SGD, evaluation.
//
// Every number of the network is a vector with one seed per lane, so that all seeds take
// the same instructions and no layer is too narrow for the processor.  Arrays are
// [image][channel][y][x] of vectors, weights [out][in][ky][kx].  A subclass computes the
// features: what the first linear layer reads.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include "linear.hpp"
#include "normalization.hpp"
#include "unfused_layers.hpp"
#include "vector.hpp"

extern "C" {

enum Architecture { LENET, PERCEPTRON };
enum Placement { AT_OUTPUT, AT_ACTIVATED, AT_INPUT };
enum DropoutPlacement { HIDDEN, BEFORE_NORM, AFTER_LAST_NORM };

// Settings of a stack; interface.py mirrors the struct.  gamma and beta: whether they are learned.
struct Spec {
  int32_t architecture, batch, layers, channels, pixels;  // pixels: of a channel
  int32_t activation, placement, norm_kind, ghost_size, groups, unbiased;
  int32_t gamma, beta, bias, dropped, dropout_placement, standardized;
  double eps, keep, momentum, decay, dropout;
  const int64_t* outputs;  // [layer]: channels or units of each layer with weights
  const uint8_t* normed;   // [layer]: whether it is normalized
  const float *mean, *sd;  // [channel], read if the images are standardized
};

// One epoch's images and order, and the batches [first, last) of it to train on.  Draws and
// noise, if any, are those of these batches: [lane][...] with the given strides.
struct Batches {
  const uint8_t *images, *labels;  // [...][channel][pixel], [...]
  const int64_t* order;            // [lane][count]
  int64_t count;
  int32_t first, last;
  const float* rates;  // [batch][lane]
  const float* draws;  // uniform numbers of dropout: [batch][layer][image][unit]
  int64_t draws_stride;
  const float* noise;  // [batch][layer], then gains and shifts [image][channel]
  int64_t noise_stride;
  double* losses;    // out: [batch][lane]
  int32_t* correct;  // out: [batch][lane]
};
}

namespace lockstep {

constexpr int TILE = 16;                     // images that are evaluated at once
constexpr size_t MOST_KEPT = size_t(1) << 30;  // bytes of activations kept between layers

enum Phase { GATHERING, FORWARD, BACKWARD, PHASES };  // of a training step

// Hands out pieces of a block of zeroed memory; without a block it adds up their size.
struct Arena {
  char* base = nullptr;
  size_t used = 0;

  template <typename T> T* take(size_t count) {
    T* piece = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (count * sizeof(T) + 63) / 64 * 64;  // aligned as the widest vectors need
    return piece;
  }
};

class Network {
 public:
  virtual ~Network() = default;

  // Bytes of memory that the network needs
  size_t bytes_needed() {
    Arena counting;
    lay_out(counting);
    return counting.used;
  }

  // Use a block of zeroed memory of that size, aligned to 64 bytes, which outlives the network
  void use(char* memory) {
    Arena arena{memory};
    lay_out(arena);
    for (Normalization& each : norm)
      for (int c = 0; c < each.channels; ++c) each.gamma.value[c] = broadcast(1.0f);
    set_constants();
  }

  // Parameters, velocities and running moments by number, see parameters.py; a null value and
  // size 0 if there is none.
  Parameter array(int kind, int layer) const {
    const bool of_norm = kind >= 4;
    const int there = of_norm ? int(norm.size()) : spec.layers;
    if (kind < 0 || kind > 9 || layer < 0 || layer >= there) return {};
    const auto velocity = [](const Parameter& p) { return Parameter{p.velocity, nullptr, p.size}; };
    switch (kind) {
      case 0: return w[layer];
      case 1: return velocity(w[layer]);
      case 2: return b[layer];
      case 3: return velocity(b[layer]);
      case 4: return norm[layer].gamma;
      case 5: return velocity(norm[layer].gamma);
      case 6: return norm[layer].beta;
      case 7: return velocity(norm[layer].beta);
      case 8: return {norm[layer].running_mean, nullptr, norm[layer].channels};
      default: return {norm[layer].running_var, nullptr, norm[layer].channels};
    }
  }

  // Random numbers that a training image needs: for dropout, and for noise
  int64_t draws_per_image() const {
    int64_t count = 0;
    for (const UnfusedLayers& each : unfused)
      for (int k = 0; k < each.count; ++k) count += each.ops[k].kind == DROP ? each.units : 0;
    return count;
  }
  int64_t noise_per_image() const {
    int64_t count = 0;
    for (const Normalization& each : norm) count += each.kind == NOISY ? 2 * each.channels : 0;
    return count;
  }

  // Seconds that training has spent in each phase so far
  double seconds[PHASES] = {};

  void train(const Batches& from) {
    int64_t drawn = 0, noised = 0;
    auto before = std::chrono::steady_clock::now();
    const auto ends = [&](Phase phase) {
      const auto now = std::chrono::steady_clock::now();
      seconds[phase] += std::chrono::duration<double>(now - before).count();
      before = now;
    };
    for (int32_t batch = from.first; batch < from.last; ++batch) {
      const int64_t start = int64_t(batch) * spec.batch, at = int64_t(batch - from.first) * LANES;
      const int n = int(std::min<int64_t>(spec.batch, from.count - start));
      gather(from, start, n);
      if (from.draws) drawn += take_draws(from.draws + drawn, from.draws_stride, n);
      if (from.noise) noised += take_noise(from.noise + noised, from.noise_stride, n);
      for (Normalization& each : norm) each.noisy = from.noise != nullptr;
      ends(GATHERING);
      forward(n, true, nullptr);
      int64_t correct[LANES] = {};
      double* loss = from.losses + at;
      std::fill(loss, loss + LANES, 0.0);
      cross_entropy(n, loss, correct);
      Sgd sgd{V{}, float(spec.momentum), float(spec.decay), active};
      for (int lane = 0; lane < LANES; ++lane) {
        loss[lane] /= n;
        from.correct[at + lane] = int32_t(correct[lane]);
        sgd.rate[lane] = from.rates[at + lane];
        if (!std::isfinite(loss[lane])) active[lane] = sgd.active[lane] = 0;
      }
      ends(FORWARD);
      backward(n, sgd);
      ends(BACKWARD);
    }
  }

  // Evaluation, by tiles of the same images for every lane.  Adds to loss and correct, [lane].
  void evaluate(const uint8_t* images, const uint8_t* their_labels, int64_t count, double* loss,
                int64_t* correct) {
    begin_evaluation();
    for (int64_t i = 0; i < count; i += TILE) {
      const int n = int(std::min<int64_t>(TILE, count - i));
      load(images + i * numbers, their_labels + i, n);
      forward(n, false, nullptr);
      cross_entropy(n, loss, correct);
    }
  }

  // Running statistics become the moments of each layer's input over all the images, layer
  // by layer, the layers before already normalizing by theirs.
  void population(const uint8_t* images, int64_t count) {
    begin_evaluation();
    Size stride = 0;  // units of the widest hidden linear layer
    for (int l = first_linear; l + 1 < spec.layers; ++l) stride = std::max(stride, outputs(l));
    // Of all images the input of unfused[from], where the moments of the layer before were taken:
    // what comes earlier is computed once.
    std::vector<V> kept;
    const bool keeps = norm.size() > 1 && size_t(count) * stride * sizeof(V) <= MOST_KEPT;
    int from = first_linear;
    for (Normalization& wanted : norm) {
      wanted.reset(1);
      int stopped = first_linear;
      for (int64_t i = 0; i < count; i += TILE) {
        const int n = int(std::min<int64_t>(TILE, count - i));
        if (from > first_linear) {
          std::copy_n(&kept[i * stride], n * unfused[from].units, unfused[from].in);
        } else {
          load(images + i * numbers, nullptr, n);
          if (!forward_features(n, false, &wanted)) continue;
        }
        stopped = forward_linear(from, n, false, &wanted);
        if (!keeps || stopped == first_linear || &wanted == &norm.back()) continue;
        kept.resize(count * stride);  // the first time only
        std::copy_n(unfused[stopped].in, n * unfused[stopped].units, &kept[i * stride]);
      }
      if (keeps) from = stopped;
      wanted.store_population();
    }
  }

 protected:
  const Spec spec;
  const int first_linear;
  const Size numbers;  // of an image: channels times pixels
  I active = I{} - 1;
  std::vector<Normalization> norm;      // in the order of the forward pass
  std::vector<Parameter> w, b;          // [layer]
  std::vector<UnfusedLayers> unfused;   // [layer]: what stands before it
  B* bytes;                             // [N][channel][pixel]
  uint8_t* labels;                      // [N][lane]
  V *logits, *gradient[2];              // gradient: by the input of a layer, in turn

  Network(const Spec& from, int first_linear)
      : spec(from), first_linear(first_linear), numbers(Size(from.channels) * from.pixels),
        w(from.layers), b(from.layers), unfused(from.layers),
        layer_outputs(from.outputs, from.outputs + from.layers),
        layer_normed(from.normed, from.normed + from.layers) {
    if (from.standardized) {
      mean.assign(from.mean, from.mean + from.channels);
      sd.assign(from.sd, from.sd + from.channels);
    }
    // pointers to these are taken while they are laid out, so none may move
    norm.reserve(from.layers);
  }

  // Lay out what stands before the first linear layer, and return its output: [N][features]
  virtual V* lay_out_features(Arena& from) = 0;
  virtual Size features() const = 0;
  // From bytes to features.  With `wanted`, in evaluation, it stops when the moments of that
  // layer's input are added, and returns false.
  virtual bool forward_features(int n, bool training, const Normalization* wanted) = 0;
  virtual void backward_features(int n, V* by_features, const Sgd& sgd) = 0;
  // Whether something before the first linear layer learns
  virtual bool learns_features() const = 0;
  virtual void set_constants() {}

  // Memory and structure ----------------------------------------------------------------

  Size outputs(int layer) const { return layer_outputs[layer]; }
  Size inputs(int layer) const { return layer > first_linear ? outputs(layer - 1) : features(); }
  bool normed(int layer) const { return layer_normed[layer]; }
  Size images() const { return std::max(spec.batch, TILE); }

  Parameter parameter(Arena& from, Size size) const {
    V* value = from.take<V>(size);
    return {value, spec.momentum != 0 ? from.take<V>(size) : nullptr, size};
  }

  Normalization* add_norm(Arena& from, Size channels, int positions) {
    norm.emplace_back();
    Normalization& to = norm.back();
    to = Normalization{};
    to.kind = NormKind(spec.norm_kind);
    to.channels = int(channels), to.positions = positions, to.ghost_size = spec.ghost_size;
    to.groups = spec.groups, to.learns_gamma = spec.gamma, to.learns_beta = spec.beta;
    to.eps = spec.eps, to.keep = spec.keep, to.unbiased = spec.unbiased;
    to.subbatches = 1;
    const Size C = channels, all_subbatches = C * to.subbatches_of(int(images()));
    to.gamma = parameter(from, C), to.beta = parameter(from, C);
    to.running_mean = from.take<V>(C), to.running_var = from.take<V>(C);
    to.channel = from.take<ChannelCoefficients>(all_subbatches);
    to.r = from.take<V>(all_subbatches), to.d = from.take<V>(all_subbatches);
    to.moments = from.take<Moments>(all_subbatches);
    to.dy = from.take<D>(all_subbatches), to.dy_xhat = from.take<D>(all_subbatches);
    to.gradients = from.take<V>(2 * C);
    if (to.kind == NOISY) {
      to.gains = from.take<V>(images() * C);
      to.shifts = from.take<V>(images() * C);
    }
    return &to;
  }

  // The layers between layer - 1 and layer, whose input `in` has so many channels
  void lay_out_unfused(Arena& from, int layer, Size channels, int positions, V* in) {
    UnfusedLayers& to = unfused[layer];
    to = UnfusedLayers{spec.activation, 0, channels * positions, in, {}};
    const auto add = [&](OpKind kind) {
      Op& op = to.ops[to.count++];
      op = Op{kind, from.take<V>(images() * to.units), nullptr, nullptr};
      if (kind == NORMALIZE) op.norm = add_norm(from, channels, positions);
      if (kind == DROP) op.keep = from.take<V>(images() * to.units);
    };
    const bool hidden = layer > first_linear, drop = hidden && spec.dropped;
    const bool norm_here = spec.placement == AT_INPUT ? normed(layer) : hidden && normed(layer - 1);
    const auto drop_at = [&](int placement) { return drop && spec.dropout_placement == placement; };
    if (hidden && spec.placement != AT_OUTPUT) add(ACTIVATE);
    if (spec.placement == AT_INPUT && drop_at(HIDDEN)) add(DROP);
    if (drop_at(BEFORE_NORM)) add(DROP);
    if (norm_here) add(NORMALIZE);
    if (hidden && spec.placement == AT_OUTPUT) add(ACTIVATE);
    if (spec.placement != AT_INPUT && drop_at(HIDDEN)) add(DROP);
    if (layer == spec.layers - 1 && drop_at(AFTER_LAST_NORM)) add(DROP);
  }

  bool pass(int layer, int n, bool training, const Normalization* wanted) const {
    return unfused[layer].forward(n, training, active, wanted);
  }

  // Image n as floats, as the network takes them
  void scale(int n, V* to) const {
    const B* from = bytes + n * numbers;
    for (Size k = 0; k < numbers; ++k) {
      const V byte = to_float(from[k]), near = byte * (1.0f / 255.0f);
      to[k] = near + (byte - near * 255.0f) * (1.0f / 255.0f);  // rounded as byte / 255 is
    }
    for (size_t c = 0; c < mean.size(); ++c, to += spec.pixels)
      for (int k = 0; k < spec.pixels; ++k) to[k] = (to[k] - mean[c]) / sd[c];
  }

  static void spread(const float* from, int64_t stride, Size size, V* to) {
    for (int lane = 0; lane < LANES; ++lane)
      for (Size k = 0; k < size; ++k) to[k][lane] = from[lane * stride + k];
  }

 private:
  Tiles tiles;
  std::vector<Size> layer_outputs;
  std::vector<uint8_t> layer_normed;
  std::vector<float> mean, sd;  // [channel]; empty unless images are standardized

  void lay_out(Arena& from) {
    norm.clear();
    const Size n = images();
    bytes = from.take<B>(n * numbers), labels = from.take<uint8_t>(n * LANES);
    V* in = lay_out_features(from);
    Size widest = features();
    for (int l = first_linear; l < spec.layers; ++l) {
      lay_out_unfused(from, l, inputs(l), 1, in);
      w[l] = parameter(from, inputs(l) * outputs(l)), b[l] = parameter(from, outputs(l));
      in = from.take<V>(n * outputs(l));
      if (l > first_linear) widest = std::max(widest, inputs(l));
    }
    logits = in;
    for (V*& each : gradient) each = from.take<V>(n * widest);
    Size most = 0;  // outputs of a linear layer, in full tiles
    for (int l = first_linear; l < spec.layers; ++l) most = std::max(most, outputs(l) + ROWS - 1);
    tiles = {from.take<V>(n * most), from.take<V>(n * STRIP), from.take<V>(most * STRIP)};
  }

  // Forward and backward ----------------------------------------------------------------

  void forward(int n, bool training, const Normalization* wanted) {
    if (forward_features(n, training, wanted)) forward_linear(first_linear, n, training, wanted);
  }

  // From the input of unfused[layer] to the logits.  Returns the layer before which it stopped
  // for the moments that are wanted, or the number of layers.
  int forward_linear(int layer, int n, bool training, const Normalization* wanted) {
    for (int l = layer; l < spec.layers; ++l) {
      if (!pass(l, n, training, wanted)) return l;
      V* z = l + 1 < spec.layers ? unfused[l + 1].in : logits;
      linear(unfused[l].out(), w[l].value, b[l].value, z, n, inputs(l), outputs(l));
    }
    return spec.layers;
  }

  // Sums of -log softmax(logits)[label] and of correct images; the logits become their
  // gradient, (softmax - one-hot) / n.
  void cross_entropy(int n, double* loss, int64_t* correct) {
    const V share = broadcast(1.0f / n);
    const int classes = int(outputs(spec.layers - 1));
    for (int i = 0; i < n; ++i) {
      V *z = logits + Size(i) * classes, top = z[0], sum = {}, at_label = {};
      I best = {}, label = __builtin_convertvector(*reinterpret_cast<B*>(labels + i * LANES), I);
      for (int c = 1; c < classes; ++c) {
        best = z[c] > top ? I{} + c : best;
        top = select(z[c] > top, z[c], top);
      }
      for (int c = 0; c < classes; ++c) {
        z[c] -= top;
        at_label = select(label == c, z[c], at_label);
        sum += exponential(z[c]);
      }
      for (int lane = 0; lane < LANES; ++lane) {
        loss[lane] += std::log(double(sum[lane])) - at_label[lane];
        correct[lane] += best[lane] == label[lane];
      }
      for (int c = 0; c < classes; ++c)
        z[c] = (exponential(z[c]) / sum - select(label == c, broadcast(1.0f), V{})) * share;
    }
  }

  void backward(int n, const Sgd& sgd) {
    V* by_output = logits;
    for (int l = spec.layers - 1; l >= first_linear; --l) {
      const bool biased = l == spec.layers - 1 || spec.bias;
      V* by_input = l > first_linear || learns_features() ? gradient[l % 2] : nullptr;
      linear_backward(unfused[l].out(), by_output, w[l], biased ? b[l] : Parameter{}, by_input, n,
                      inputs(l), outputs(l), sgd, tiles);
      if (by_input) unfused[l].backward(by_input, n, sgd);
      by_output = by_input;
    }
    backward_features(n, by_output, sgd);
  }

  // Images and random numbers -----------------------------------------------------------

  void gather(const Batches& from, int64_t start, int n) {
    for (int i = 0; i < n; ++i) {
      const uint8_t* rows[LANES];
      for (int lane = 0; lane < LANES; ++lane) {
        const int64_t which = from.order[lane * from.count + start + i];
        rows[lane] = from.images + which * numbers;
        labels[i * LANES + lane] = from.labels[which];
      }
      uint8_t* to = reinterpret_cast<uint8_t*>(bytes + i * numbers);
      for (Size k = 0; k < numbers; ++k)
        for (int lane = 0; lane < LANES; ++lane) to[k * LANES + lane] = rows[lane][k];
    }
  }

  // The same images for every lane
  void load(const uint8_t* images, const uint8_t* their_labels, int n) {
    for (Size k = 0; k < n * numbers; ++k) bytes[k] = B{} + images[k];
    for (int k = 0; k < n * LANES && their_labels; ++k) labels[k] = their_labels[k / LANES];
  }

  // Dropout keeps where the uniform number is at least the rate.  Returns the numbers used.
  int64_t take_draws(const float* draws, int64_t stride, int n) {
    int64_t used = 0;
    const float rate = float(spec.dropout), kept_scale = float(1.0 / (1.0 - spec.dropout));
    for (UnfusedLayers& each : unfused)
      for (int k = 0; k < each.count; ++k) {
        if (each.ops[k].kind != DROP) continue;
        V* keep = each.ops[k].keep;
        const Size size = n * each.units;
        spread(draws + used, stride, size, keep);
        for (Size j = 0; j < size; ++j)
          keep[j] = select(keep[j] >= rate, broadcast(kept_scale), V{});
        used += size;
      }
    return used;
  }

  int64_t take_noise(const float* noise, int64_t stride, int n) {
    int64_t used = 0;
    for (Normalization& each : norm) {
      const Size size = Size(n) * each.channels;
      spread(noise + used, stride, size, each.gains);
      spread(noise + used + size, stride, size, each.shifts);
      used += 2 * size;
    }
    return used;
  }

  void begin_evaluation() {
    for (Normalization& each : norm) {
      each.noisy = false;
      each.set_evaluation();
    }
  }
};

}  // namespace lockstep
