// The networks of a stack behind a plain C interface, which interface.py declares and cpu.py calls.
//
// Reading order: vector, convolution, linear, normalization, convolution_block, unfused_layers,
// network, lenet and perceptron.  Nothing is checked here: interface.py and cpu.py check all that
// they pass.

#include <cstddef>
#include <new>

#include "lenet.hpp"
#include "network.hpp"
#include "perceptron.hpp"

using namespace lockstep;

namespace {

Network* make(const Spec& spec) {
  if (spec.architecture == PERCEPTRON) return new Perceptron(spec);
  return with_activation(spec.activation, [&](auto act) -> Network* {
    constexpr int ACT = decltype(act)::value;
    const bool in_blocks = (spec.normed[0] || spec.normed[1]) && spec.placement != AT_INPUT;
    if (!in_blocks) return new LeNet<ACT, NO_NORM>(spec);
    if (spec.placement == AT_ACTIVATED) return new LeNet<ACT, AFTER_ACTIVATION>(spec);
    return new LeNet<ACT, BEFORE_ACTIVATION>(spec);
  });
}

Network* network(void* handle) { return static_cast<Network*>(handle); }

}  // namespace

extern "C" {

int32_t lockstep_lanes() { return LANES; }

// Size of each struct and offset of each of its fields, in their order, then -1
const int32_t* lockstep_layout() {
#define AT(field) int32_t(offsetof(Type, field))
  static const auto spec = [] {
    using Type = Spec;
    return std::vector<int32_t>{
        sizeof(Spec),   AT(architecture), AT(batch),     AT(layers),
        AT(channels),   AT(pixels),       AT(activation), AT(placement),
        AT(norm_kind),  AT(ghost_size),   AT(groups),    AT(unbiased),
        AT(gamma),      AT(beta),         AT(bias),      AT(dropped),
        AT(dropout_placement),            AT(standardized),
        AT(eps),        AT(keep),         AT(momentum),  AT(decay),
        AT(dropout),    AT(outputs),      AT(normed),    AT(mean),
        AT(sd)};
  }();
  static const auto all = [] {
    using Type = Batches;
    std::vector<int32_t> found = spec;
    found.insert(found.end(),
                 {sizeof(Batches), AT(images), AT(labels), AT(order), AT(count), AT(first),
                  AT(last), AT(rates), AT(draws), AT(draws_stride), AT(noise), AT(noise_stride),
                  AT(losses), AT(correct), -1});
    return found;
  }();
#undef AT
  return all.data();
}

// Null if there is not enough memory.  The network has none of its own for its numbers: it
// needs lockstep_bytes(), zeroed and aligned to 64 bytes, for which see lockstep_use().
void* lockstep_create(const Spec* spec) try {
  return make(*spec);
} catch (const std::bad_alloc&) {
  return nullptr;
}

int64_t lockstep_bytes(void* handle) { return int64_t(network(handle)->bytes_needed()); }

void lockstep_use(void* handle, char* memory) { network(handle)->use(memory); }

void lockstep_free(void* handle) { delete network(handle); }

// Null, and size 0, if there is none.
float* lockstep_array(void* handle, int32_t kind, int32_t layer, int64_t* size) {
  const Parameter found = network(handle)->array(kind, layer);
  *size = found.value ? found.size : 0;
  return reinterpret_cast<float*>(found.value);
}

int64_t lockstep_draws_per_image(void* handle) { return network(handle)->draws_per_image(); }

int64_t lockstep_noise_per_image(void* handle) { return network(handle)->noise_per_image(); }

void lockstep_train(void* handle, const Batches* batches) {
  const NoDenormals here;
  network(handle)->train(*batches);
}

// Seconds of training so far: gathering, forward, backward
const double* lockstep_seconds(void* handle) { return network(handle)->seconds; }

// Adds to loss and correct, [lane].
void lockstep_evaluate(void* handle, const uint8_t* images, const uint8_t* labels, int64_t count,
                       double* loss, int64_t* correct) {
  const NoDenormals here;
  network(handle)->evaluate(images, labels, count, loss, correct);
}

// Returns 0 if there is not enough memory.
int32_t lockstep_population(void* handle, const uint8_t* images, int64_t count) try {
  const NoDenormals here;
  network(handle)->population(images, count);
  return 1;
} catch (const std::bad_alloc&) {
  return 0;
}
}
