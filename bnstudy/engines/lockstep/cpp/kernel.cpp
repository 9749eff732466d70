// LeNet for several seeds at once: forward, backward, SGD and evaluation.
//
// Every number of the network is a vector with one seed per lane, so that all seeds take
// the same instructions and no layer is too narrow for the processor.  Arrays are
// [image][channel][y][x] of vectors, weights [out][in][ky][kx].  Read vector, convolution,
// linear, normalization, convolution_block and unfused_layers first: here they are put
// together, with a C interface.

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "convolution.hpp"
#include "unfused_layers.hpp"
#include "linear.hpp"
#include "normalization.hpp"
#include "convolution_block.hpp"
#include "vector.hpp"

using namespace lockstep;

extern "C" {

enum Placement { AT_OUTPUT, AT_ACTIVATED, AT_INPUT };
enum DropoutPlacement { HIDDEN, BEFORE_NORM, AFTER_LAST_NORM };

// Settings of a stack; cpu.py mirrors the struct.  `normed` has a bit for each layer that is
// normalized, the lowest for the first layer; gamma and beta: whether they are learned.
struct Spec {
  int32_t batch, activation, normed, placement, norm_kind, ghost_size, groups, unbiased;
  int32_t gamma, beta, bias, dropped, dropout_placement;
  double eps, keep, momentum, decay, dropout;
};

// One epoch's images and order, and the batches [first, last) of it to train on.  Draws and
// noise, if any, are those of these batches: [lane][...] with the given strides.
struct Batches {
  const uint8_t *images, *labels;  // [...][784], [...]
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

namespace {

constexpr int PIXELS = 28 * 28, CLASSES = 10, LAYERS = 5, TILE = 16;

struct Network {
  virtual ~Network() = default;
  virtual V* array(int kind, int layer) = 0;
  virtual void train(const Batches& batches) = 0;
  virtual void evaluate(const uint8_t* images, const uint8_t* labels, int64_t count, double* loss,
                        int64_t* correct) = 0;
  virtual void population(const uint8_t* images, int64_t count) = 0;
  virtual bool ready() const = 0;
};

// Hands out pieces of one block of zeroed memory; without a block it adds up their size.
struct Arena {
  char* base = nullptr;
  size_t used = 0;

  template <typename T> T* take(size_t count) {
    T* piece = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (count * sizeof(T) + 63) / 64 * 64;  // aligned as the widest vectors need
    return piece;
  }
};

template <int ACT, int NORM> struct LeNet final : Network {
  Spec spec;
  char* memory = nullptr;
  I active = I{} - 1;
  int norms = 0;
  Normalization norm[LAYERS], absent[2];  // absent: of the blocks
  ConvolutionBlock<ACT, NORM, 1, 6, 28, tile(3, 2), 6> block1;
  ConvolutionBlock<ACT, NORM, 6, 16, 12, 2, tile(8, 4)> block2;
  UnfusedLayers unfused[LAYERS];  // before conv1, conv2, fc1, fc2 and fc3
  Parameter w[3], b[3];  // of fc1, fc2 and fc3
  B* bytes;              // [N][28][28]
  uint8_t* labels;       // [N][lane]
  V *x, *logits, *gradient[LAYERS];

  explicit LeNet(const Spec& from) : spec(from) {
    Arena counting;
    lay_out(counting);
    memory = static_cast<char*>(std::aligned_alloc(64, counting.used));
    if (!memory) return;
    std::memset(memory, 0, counting.used);
    Arena arena{memory};
    lay_out(arena);
    for (int l = 0; l < norms; ++l)
      for (int c = 0; c < norm[l].channels; ++c) norm[l].gamma.value[c] = broadcast(1.0f);
    for (Normalization& each : absent)
      for (int c = 0; c < each.channels; ++c) each.channel[c] = ChannelCoefficients::identity();
  }
  ~LeNet() override { std::free(memory); }
  bool ready() const override { return memory; }

  // Memory and structure ----------------------------------------------------------------

  bool normed(int layer) const { return spec.normed >> layer & 1; }
  int images() const { return std::max(spec.batch, TILE); }

  Parameter parameter(Arena& from, size_t size) const {
    V* value = from.take<V>(size);
    return {value, spec.momentum != 0 ? from.take<V>(size) : nullptr};
  }

  Normalization* add_norm(Arena& from, int channels, int positions) {
    Normalization& to = norm[norms++];
    to = Normalization{};
    to.kind = NormKind(spec.norm_kind);
    to.channels = channels, to.positions = positions, to.ghost_size = spec.ghost_size;
    to.groups = spec.groups, to.learns_gamma = spec.gamma, to.learns_beta = spec.beta;
    to.eps = spec.eps, to.keep = spec.keep, to.unbiased = spec.unbiased;
    to.subbatches = 1;
    const size_t C = channels, all_subbatches = C * to.subbatches_of(images());
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

  Normalization* add_absent(Arena& from, Normalization& to, int channels) const {
    to.kind = ABSENT, to.channels = channels, to.subbatches = 1;
    to.channel = from.take<ChannelCoefficients>(channels);
    return &to;
  }

  void add_op(Arena& from, UnfusedLayers& to, OpKind kind, int channels, int positions) {
    Op& op = to.ops[to.count++];
    op = Op{kind, from.take<V>(size_t(images()) * to.units), nullptr, nullptr};
    if (kind == NORMALIZE) op.norm = add_norm(from, channels, positions);
    if (kind == DROP) op.keep = from.take<V>(size_t(images()) * to.units);
  }

  void lay_out_unfused(Arena& from, int layer, int channels, int positions, V* in) {
    UnfusedLayers& to = unfused[layer];
    to = UnfusedLayers{channels * positions, 0, in, {}};
    const auto add = [&](OpKind kind) { add_op(from, to, kind, channels, positions); };
    const bool hidden = layer >= 3, drop = hidden && spec.dropped;
    const bool norm_here = spec.placement == AT_INPUT ? normed(layer) : hidden && normed(layer - 1);
    const auto drop_at = [&](int placement) { return drop && spec.dropout_placement == placement; };
    if (hidden && spec.placement != AT_OUTPUT) add(ACTIVATE);
    if (spec.placement == AT_INPUT && drop_at(HIDDEN)) add(DROP);
    if (drop_at(BEFORE_NORM)) add(DROP);
    if (norm_here) add(NORMALIZE);
    if (hidden && spec.placement == AT_OUTPUT) add(ACTIVATE);
    if (spec.placement != AT_INPUT && drop_at(HIDDEN)) add(DROP);
    if (layer == 4 && drop_at(AFTER_LAST_NORM)) add(DROP);
  }

  template <typename S> void lay_out_block(Arena& from, S& block, int layer) {
    const size_t n = images();
    block.w = parameter(from, S::WEIGHTS), block.b = parameter(from, S::VALUES / S::SIDE / S::SIDE);
    block.dw = from.take<V>(S::WEIGHTS), block.db = from.take<V>(16);
    block.z = from.take<V>(n * S::VALUES), block.p = from.take<V>(n * S::CELLS);
    block.dz = from.take<V>(S::VALUES);
    block.norm = nullptr;
    absent[layer] = Normalization{};
    if (NORM == NO_NORM) return;
    block.slopes = from.take<V>(n * S::CELLS), block.slopes_xhat = from.take<V>(n * S::CELLS);
    constexpr int CHANNELS = S::VALUES / S::SIDE / S::SIDE;
    block.norm = normed(layer) ? add_norm(from, CHANNELS, S::SIDE * S::SIDE)
                               : add_absent(from, absent[layer], CHANNELS);
  }

  void lay_out(Arena& from) {
    const size_t n = images();
    constexpr int UNITS[4] = {256, 120, 84, CLASSES};
    norms = 0;
    bytes = from.take<B>(n * PIXELS), labels = from.take<uint8_t>(n * LANES);
    x = from.take<V>(PIXELS);
    const bool normed_images = normed(0) && spec.placement == AT_INPUT;
    lay_out_unfused(from, 0, 1, PIXELS, normed_images ? from.take<V>(n * PIXELS) : nullptr);
    lay_out_block(from, block1, 0);
    lay_out_unfused(from, 1, 6, 144, block1.p);
    lay_out_block(from, block2, 1);
    lay_out_unfused(from, 2, 256, 1, block2.p);
    for (int l = 0; l < 3; ++l) {
      w[l] = parameter(from, UNITS[l] * UNITS[l + 1]), b[l] = parameter(from, UNITS[l + 1]);
      V* z = from.take<V>(n * UNITS[l + 1]);
      gradient[l + 2] = from.take<V>(n * UNITS[l]);
      if (l < 2) lay_out_unfused(from, l + 3, UNITS[l + 1], 1, z);
      else logits = z;
    }
  }

  // Parameters, velocities and buffers by number; see parameters.py.
  V* array(int kind, int layer) override {
    const Parameter weights[] = {block1.w, block2.w, w[0], w[1], w[2]};
    const Parameter biases[] = {block1.b, block2.b, b[0], b[1], b[2]};
    switch (kind) {
      case 0: return weights[layer].value;
      case 1: return weights[layer].velocity;
      case 2: return biases[layer].value;
      case 3: return biases[layer].velocity;
      case 4: return norm[layer].gamma.value;
      case 5: return norm[layer].gamma.velocity;
      case 6: return norm[layer].beta.value;
      case 7: return norm[layer].beta.velocity;
      case 8: return norm[layer].running_mean;
      default: return norm[layer].running_var;
    }
  }

  // Forward -----------------------------------------------------------------------------

  // Image n as floats in 0..1
  void scale(int n, V* to) const {
    const B* from = bytes + size_t(n) * PIXELS;
    for (int k = 0; k < PIXELS; ++k) {
      const V byte = to_float(from[k]), near = byte * (1.0f / 255.0f);
      to[k] = near + (byte - near * 255.0f) * (1.0f / 255.0f);  // rounded as byte / 255 is
    }
  }

  const V* image(int n) const {
    if (unfused[0].count) return unfused[0].out() + size_t(n) * PIXELS;
    scale(n, x);
    return x;
  }

  V* input2(int n) const { return unfused[1].out() + size_t(n) * block2.INPUTS; }

  // From bytes to logits.  With `wanted`, in evaluation, it stops when the moments of that
  // layer's input are added, and returns false.
  bool forward(int n, bool training, const Normalization* wanted) {
    return forward_blocks(n, training, wanted) && forward_linear(n, training, wanted);
  }

  // Up to the output of the first linear layer
  bool forward_blocks(int n, bool training, const Normalization* wanted) {
    const auto own = [&](const Normalization* norm) {
      return norm && norm->takes_moments(training);
    };
    const auto added = [&](const Normalization* norm) {
      return norm && (own(norm) || norm == wanted);
    };
    const auto reset = [&](Normalization* norm) {
      if (own(norm)) norm->reset(norm->subbatches_of(n));
    };
    const auto finish = [&](Normalization* norm) {
      if (own(norm)) norm->finish_moments(active);
    };
    const auto pass = [&](int l) {
      return unfused[l].template forward<ACT>(n, training, active, wanted);
    };

    for (int i = 0; i < n && unfused[0].count; ++i) scale(i, unfused[0].in + size_t(i) * PIXELS);
    if (!pass(0)) return false;
    reset(block1.norm);
    for (int i = 0; i < n; ++i) block1.forward(image(i), i, added(block1.norm));
    if (wanted && wanted == block1.norm) return false;
    finish(block1.norm);
    reset(block2.norm);
    const auto second = [&](int i) { block2.forward(input2(i), i, added(block2.norm)); };
    for (int i = n - 1; i >= 0; --i) {  // backwards: the last images are still in the cache
      block1.pool(i);
      if (!unfused[1].count) second(i);
    }
    if (!pass(1)) return false;
    for (int i = 0; i < n && unfused[1].count; ++i) second(i);
    if (wanted && wanted == block2.norm) return false;
    finish(block2.norm);
    for (int i = 0; i < n; ++i) block2.pool(i);
    if (!pass(2)) return false;
    linear<256, 120>(unfused[2].out(), w[0].value, b[0].value, unfused[3].in, n);
    return true;
  }

  // From the output of the first linear layer to the logits
  bool forward_linear(int n, bool training, const Normalization* wanted) {
    const auto pass = [&](int l) {
      return unfused[l].template forward<ACT>(n, training, active, wanted);
    };
    if (!pass(3)) return false;
    linear<120, 84>(unfused[3].out(), w[1].value, b[1].value, unfused[4].in, n);
    if (!pass(4)) return false;
    linear<84, CLASSES>(unfused[4].out(), w[2].value, b[2].value, logits, n);
    return true;
  }

  // Sums of -log softmax(logits)[label] and of correct images; the logits become their
  // gradient, (softmax - one-hot) / n.
  void cross_entropy(int n, double* loss, int64_t* correct) {
    const V share = broadcast(1.0f / n);
    for (int i = 0; i < n; ++i) {
      V *z = logits + i * CLASSES, top = z[0], sum = {}, at_label = {};
      I best = {}, label = __builtin_convertvector(*reinterpret_cast<B*>(labels + i * LANES), I);
      for (int c = 1; c < CLASSES; ++c) {
        best = z[c] > top ? I{} + c : best;
        top = select(z[c] > top, z[c], top);
      }
      for (int c = 0; c < CLASSES; ++c) {
        z[c] -= top;
        at_label = select(label == c, z[c], at_label);
        sum += Exponential(z[c]).value();
      }
      for (int lane = 0; lane < LANES; ++lane) {
        loss[lane] += std::log(double(sum[lane])) - at_label[lane];
        correct[lane] += best[lane] == label[lane];
      }
      for (int c = 0; c < CLASSES; ++c)
        z[c] = (Exponential(z[c]).value() / sum - select(label == c, broadcast(1.0f), V{})) * share;
    }
  }

  // Backward ----------------------------------------------------------------------------

  void backward(int n, const Sgd& sgd) {
    const auto back = [&](int l, V* by) { unfused[l].template backward<ACT>(by, n, sgd); };
    const auto bias = [&](int l) { return l == 2 || spec.bias ? b[l] : Parameter{}; };
    linear_backward<84, CLASSES>(unfused[4].out(), logits, w[2], bias(2), gradient[4], n, sgd);
    back(4, gradient[4]);
    linear_backward<120, 84>(unfused[3].out(), gradient[4], w[1], bias(1), gradient[3], n, sgd);
    back(3, gradient[3]);
    linear_backward<256, 120>(unfused[2].out(), gradient[3], w[0], bias(0), gradient[2], n, sgd);
    back(2, gradient[2]);

    const auto dp2 = [&](int i) { return gradient[2] + size_t(i) * block2.CELLS; };
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
    back(1, unfused[1].out());
    if (norm1) block1.norm->finish_gradient(sgd);
    for (int i = n - 1; i >= 0; --i) {
      block1.template backward<2, tile(3, 2)>(i, image(i), input2(i));
      if (unfused[0].count) block1.input_gradient(unfused[0].out() + size_t(i) * PIXELS);
    }
    back(0, unfused[0].out());
    block1.step(sgd, spec.bias);
    block2.step(sgd, spec.bias);
  }

  // Training ----------------------------------------------------------------------------

  void gather(const Batches& from, int64_t start, int n) {
    for (int i = 0; i < n; ++i) {
      const uint8_t* rows[LANES];
      for (int lane = 0; lane < LANES; ++lane) {
        const int64_t which = from.order[lane * from.count + start + i];
        rows[lane] = from.images + which * PIXELS;
        labels[i * LANES + lane] = from.labels[which];
      }
      uint8_t* to = reinterpret_cast<uint8_t*>(bytes + size_t(i) * PIXELS);
      for (int k = 0; k < PIXELS; ++k)
        for (int lane = 0; lane < LANES; ++lane) to[k * LANES + lane] = rows[lane][k];
    }
  }

  static void spread(const float* from, int64_t stride, size_t size, V* to) {
    for (int lane = 0; lane < LANES; ++lane)
      for (size_t k = 0; k < size; ++k) to[k][lane] = from[lane * stride + k];
  }

  // Dropout keeps where the uniform number is at least the rate.  Returns the numbers used.
  int64_t take_draws(const float* draws, int64_t stride, int n) {
    int64_t used = 0;
    const float rate = float(spec.dropout), kept_scale = float(1.0 / (1.0 - spec.dropout));
    for (UnfusedLayers& each : unfused)
      for (int k = 0; k < each.count; ++k) {
        if (each.ops[k].kind != DROP) continue;
        V* keep = each.ops[k].keep;
        const size_t size = size_t(n) * each.units;
        spread(draws + used, stride, size, keep);
        for (size_t j = 0; j < size; ++j)
          keep[j] = select(keep[j] >= rate, broadcast(kept_scale), V{});
        used += size;
      }
    return used;
  }

  int64_t take_noise(const float* noise, int64_t stride, int n) {
    int64_t used = 0;
    for (int l = 0; l < norms; ++l) {
      const size_t size = size_t(n) * norm[l].channels;
      spread(noise + used, stride, size, norm[l].gains);
      spread(noise + used + size, stride, size, norm[l].shifts);
      used += 2 * size;
    }
    return used;
  }

  void train(const Batches& from) override {
    int64_t drawn = 0, noised = 0;
    for (int32_t batch = from.first; batch < from.last; ++batch) {
      const int64_t start = int64_t(batch) * spec.batch, at = int64_t(batch - from.first) * LANES;
      const int n = int(std::min<int64_t>(spec.batch, from.count - start));
      gather(from, start, n);
      if (from.draws) drawn += take_draws(from.draws + drawn, from.draws_stride, n);
      if (from.noise) noised += take_noise(from.noise + noised, from.noise_stride, n);
      for (int l = 0; l < norms; ++l) norm[l].noisy = from.noise != nullptr;
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
      backward(n, sgd);
    }
  }

  // Evaluation: a tile of the same images for every lane --------------------------------

  void load(const uint8_t* images, const uint8_t* their_labels, int n) {
    for (int k = 0; k < n * PIXELS; ++k) bytes[k] = B{} + images[k];
    for (int k = 0; k < n * LANES && their_labels; ++k) labels[k] = their_labels[k / LANES];
  }

  void begin_evaluation() {
    for (int l = 0; l < norms; ++l) {
      norm[l].noisy = false;
      norm[l].set_evaluation();
    }
  }

  void evaluate(const uint8_t* images, const uint8_t* their_labels, int64_t count, double* loss,
                int64_t* correct) override {
    begin_evaluation();
    for (int64_t i = 0; i < count; i += TILE) {
      const int n = int(std::min<int64_t>(TILE, count - i));
      load(images + i * PIXELS, their_labels + i, n);
      forward(n, false, nullptr);
      cross_entropy(n, loss, correct);
    }
  }

  // Running statistics become the moments of each layer's input over all the images, layer
  // by layer, the layers before already normalizing by theirs.
  void population(const uint8_t* images, int64_t count) override {
    begin_evaluation();
    constexpr int UNITS = 120;
    std::vector<V> kept;  // outputs of the first linear layer, to do the convolutions once only
    for (int l = 0; l < norms; ++l) {
      const bool again = !kept.empty();
      norm[l].reset(1);
      for (int64_t i = 0; i < count; i += TILE) {
        const int n = int(std::min<int64_t>(TILE, count - i)), size = n * UNITS;
        if (again) {
          std::copy_n(&kept[i * UNITS], size, unfused[3].in);
        } else {
          load(images + i * PIXELS, nullptr, n);
          if (!forward_blocks(n, false, &norm[l])) continue;
          if (l + 1 < norms) kept.resize(count * UNITS);
          if (l + 1 < norms) std::copy_n(unfused[3].in, size, &kept[i * UNITS]);
        }
        forward_linear(n, false, &norm[l]);
      }
      norm[l].store_population();
    }
  }
};

template <int NORM> Network* make(const Spec& spec) {
  switch (spec.activation) {
    case SIGMOID: return new (std::nothrow) LeNet<SIGMOID, NORM>(spec);
    case RELU: return new (std::nothrow) LeNet<RELU, NORM>(spec);
    default: return new (std::nothrow) LeNet<TANH, NORM>(spec);
  }
}

Network* network(void* handle) { return static_cast<Network*>(handle); }

}  // namespace

extern "C" {

int32_t lockstep_lanes() { return LANES; }

// Null if there is not enough memory.
void* lockstep_create(const Spec* spec) {
  const bool in_blocks = spec->normed & 3 && spec->placement != AT_INPUT;
  Network* made = !in_blocks                          ? make<NO_NORM>(*spec)
                  : spec->placement == AT_ACTIVATED ? make<AFTER_ACTIVATION>(*spec)
                                                    : make<BEFORE_ACTIVATION>(*spec);
  if (made && made->ready()) return made;
  delete made;
  return nullptr;
}

void lockstep_free(void* handle) { delete network(handle); }

float* lockstep_array(void* handle, int32_t kind, int32_t layer) {
  return reinterpret_cast<float*>(network(handle)->array(kind, layer));
}

void lockstep_train(void* handle, const Batches* batches) {
  const NoDenormals here;
  network(handle)->train(*batches);
}

// Adds to loss and correct, [lane].
void lockstep_evaluate(void* handle, const uint8_t* images, const uint8_t* labels, int64_t count,
                       double* loss, int64_t* correct) {
  const NoDenormals here;
  network(handle)->evaluate(images, labels, count, loss, correct);
}

void lockstep_population(void* handle, const uint8_t* images, int64_t count) {
  const NoDenormals here;
  network(handle)->population(images, count);
}
}
