// One number of the network for several seeds: a vector with one seed per lane.
//
// V is a vector type of GCC and Clang that fills one register: sixteen seeds with AVX-512, eight
// with AVX, else four.  A wider one would be cut into pieces that GCC keeps in memory, which
// takes four times as long.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#ifdef __SSE__
#include <immintrin.h>
#endif

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

namespace lockstep {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

// Sums that are kept in registers at once: a tile for 32 registers, or one for 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int tile(int of_32, int) { return of_32; }
#else
constexpr int tile(int, int of_16) { return of_16; }
#endif

using Size = std::ptrdiff_t;  // numbers of vectors, and distances between them

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef double D __attribute__((vector_size(8 * LANES)));
typedef uint8_t B __attribute__((vector_size(LANES)));
typedef uint16_t H __attribute__((vector_size(2 * LANES)));

inline V broadcast(float value) { return V{} + value; }
inline V select(I mask, V yes, V no) { return mask ? yes : no; }
// Byte to short to int to float: processors have instructions for each, not for the whole
inline V to_float(B b) {
  return __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(b, H), I), V);
}
inline D to_double(V v) { return __builtin_convertvector(v, D); }
inline V to_single(D d) { return __builtin_convertvector(d, V); }

// 1 / d.  Where the processor has an estimate to 14 bits, one Newton step from it takes half
// the time of a division and is off by at most the last bit or so.
inline V inverse(V d) {
#ifdef __AVX512F__
  const V estimate = (V)_mm512_rcp14_ps((__m512)d);
  return estimate + estimate * (1.0f - d * estimate);
#else
  return 1.0f / d;
#endif
}

// While it exists, numbers below 1e-38 count as 0.  Saturated sigmoids produce them, and each
// operation on one takes a hundred times as long.
struct NoDenormals {
#ifdef __SSE__
  const unsigned before = _mm_getcsr();
  NoDenormals() { _mm_setcsr(before | 0x8040); }  // results and operands
  ~NoDenormals() { _mm_setcsr(before); }
#else
  NoDenormals() {}
#endif
};

inline D root(D d) {
  for (int lane = 0; lane < LANES; ++lane) d[lane] = std::sqrt(d[lane]);
  return d;
}

// The lesser of two, or the greater; NaN as the second argument passes
#if defined(__AVX512F__)
inline V lesser(V bound, V x) { return (V)_mm512_min_ps((__m512)bound, (__m512)x); }
inline V greater(V bound, V x) { return (V)_mm512_max_ps((__m512)bound, (__m512)x); }
#elif defined(__AVX__)
inline V lesser(V bound, V x) { return (V)_mm256_min_ps((__m256)bound, (__m256)x); }
inline V greater(V bound, V x) { return (V)_mm256_max_ps((__m256)bound, (__m256)x); }
#else
inline V lesser(V bound, V x) { return bound < x ? bound : x; }
inline V greater(V bound, V x) { return bound > x ? bound : x; }
#endif

// 2^t = 2^n 2^r, n = round(t), and 2^r - 1 by a polynomial, minimax on [-1/2, 1/2] to 2e-9.
// To about 1e-7 relative for small t, |t| 6e-8 for large ones, which are rounded; NaN stays NaN.
//
// N at once, step by step: one is a chain of twenty operations, each of which waits for the one
// before it, and processors do not look far enough ahead to find the next chain by themselves.
template <int N> struct PowersOfTwo {
  V power[N], rest[N];  // 2^n and 2^r - 1

  explicit PowersOfTwo(const V (&t)[N]) {
    // adding 1.5 * 2^23 rounds to an integer, in the lowest bits; 127 more make it an exponent
    const V magic = broadcast(12582912.0f + 127.0f);
    constexpr float coefficients[] = {1.3398875e-3f, 9.6184374e-3f, 5.5503325e-2f, 2.4022648e-1f,
                                      6.9314720e-1f};
    V r[N];
    UNROLL for (int k = 0; k < N; ++k)
      r[k] = greater(broadcast(-126.0f), lesser(broadcast(127.0f), t[k]));
    UNROLL for (int k = 0; k < N; ++k) power[k] = r[k] + magic;
    UNROLL for (int k = 0; k < N; ++k) r[k] -= power[k] - magic;
    UNROLL for (int k = 0; k < N; ++k) rest[k] = broadcast(1.5353361e-4f);
    UNROLL for (float c : coefficients)
      UNROLL for (int k = 0; k < N; ++k) rest[k] = rest[k] * r[k] + c;
    UNROLL for (int k = 0; k < N; ++k) rest[k] *= r[k];
    UNROLL for (int k = 0; k < N; ++k) power[k] = (V)((I)power[k] << 23);
  }

  V value(int k) const { return rest[k] * power[k] + power[k]; }
  V plus_one(int k) const { return rest[k] * power[k] + (power[k] + 1.0f); }
  V minus_one(int k) const { return rest[k] * power[k] + (power[k] - 1.0f); }  // exact near 0
};

constexpr float LOG2_E = 1.44269504088896341f;
inline V exponential(V x) { return PowersOfTwo<1>({x * LOG2_E}).value(0); }

enum Activation { SIGMOID, RELU, TANH };

// Activations are computed from t = y times this, which the caller multiplies into what it knows
template <int ACT> constexpr float ARGUMENT = ACT == SIGMOID ? -LOG2_E : ACT == TANH ? 2 * LOG2_E : 1;

// N values of t become the activation, as many at once as the registers hold
template <int ACT, int N> inline void activate_arguments(V (&t)[N]) {
  constexpr int AT_ONCE = tile(4, 2);
  if constexpr (ACT == RELU) {
    UNROLL for (int k = 0; k < N; ++k) t[k] = select(t[k] <= 0.0f, V{}, t[k]);  // NaN passes
    return;
  } else if constexpr (N > AT_ONCE) {
    static_assert(N % AT_ONCE == 0, "whole groups");
    UNROLL for (int k = 0; k < N; k += AT_ONCE)
      activate_arguments<ACT>(*reinterpret_cast<V(*)[AT_ONCE]>(t + k));
    return;
  }
  const PowersOfTwo<N> e(t);
  if (ACT == SIGMOID) UNROLL for (int k = 0; k < N; ++k) t[k] = inverse(e.plus_one(k));
  // inverse() would give 0: the estimate of so large a number is 0
  if (ACT == TANH)
    UNROLL for (int k = 0; k < N; ++k) t[k] = e.minus_one(k) / (e.minus_one(k) + 2.0f);
}

// to[k] = activation of from[k], which may be the same array
template <int ACT> inline void activate(const V* from, V* to, Size count) {
  constexpr int AT_ONCE = 4;
  V t[AT_ONCE];
  Size k = 0;
  for (; k + AT_ONCE <= count; k += AT_ONCE) {
    UNROLL for (int j = 0; j < AT_ONCE; ++j) t[j] = from[k + j] * ARGUMENT<ACT>;
    activate_arguments<ACT>(t);
    UNROLL for (int j = 0; j < AT_ONCE; ++j) to[k + j] = t[j];
  }
  for (; k < count; ++k) {
    V last[1] = {from[k] * ARGUMENT<ACT>};
    activate_arguments<ACT>(last);
    to[k] = last[0];
  }
}

// da/dy, from a alone
template <int ACT> inline V slope(V a) {
  if (ACT == SIGMOID) return a * (1.0f - a);
  if (ACT == TANH) return 1.0f - a * a;
  return select(a > 0.0f, broadcast(1.0f), V{});
}

// Calls f with the activation as a constant: f(act), where decltype(act)::value is its number
template <typename F> auto with_activation(int activation, F f) {
  switch (activation) {
    case SIGMOID: return f(std::integral_constant<int, SIGMOID>{});
    case RELU: return f(std::integral_constant<int, RELU>{});
    default: return f(std::integral_constant<int, TANH>{});
  }
}

}  // namespace lockstep
