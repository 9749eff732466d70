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

// e^x = 2^n e^r, n = round(x / ln 2), and e^r - 1 by the polynomial of Cephes on
// [-ln 2 / 2, ln 2 / 2].  To about 1e-7 relative; NaN stays NaN.
struct Exponential {
  V power, rest;  // 2^n and e^r - 1

  explicit Exponential(V x) {
    x = broadcast(88.0f) < x ? broadcast(88.0f) : x;
    x = broadcast(-87.0f) > x ? broadcast(-87.0f) : x;
    const V magic = broadcast(12582912.0f);  // adding 1.5 * 2^23 rounds to an integer
    const V n = x * 1.44269504088896341f + magic - magic;
    const V r = x - n * 0.693359375f + n * 2.12194440e-4f;
    V p = broadcast(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    rest = p * r * r + r;
    power = (V)((__builtin_convertvector(n, I) + 127) << 23);
  }

  V value() const { return rest * power + power; }
  V minus_one() const { return rest * power + (power - 1.0f); }  // keeps its digits near 0
};

enum Activation { SIGMOID, RELU, TANH };

template <int ACT> inline V activate(V y) {
  if (ACT == SIGMOID) return inverse(1.0f + Exponential(-y).value());
  if (ACT == TANH) {
    const V e = Exponential(2.0f * y).minus_one();
    return e / (e + 2.0f);  // inverse() would give 0: the estimate of so large a number is 0
  }
  return select(y <= 0.0f, V{}, y);  // NaN passes
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
