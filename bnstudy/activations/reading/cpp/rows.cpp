// Reading the sums of the rows of a float32 matrix in one pass through it.
//
// A block of a row is taken into the nearest cache once, and each statistic that is
// wanted goes over it there.  Sums are kept in float64, so that no digit of a float32 is
// lost; a NaN is in no count and in no extreme, but in every sum.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 16;
constexpr int64_t BLOCK = 4096;  // values: 16 KiB
constexpr int64_t AHEAD = 1024;  // tensors come from a far cache, which is slow to notice

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef float HalfFloats __attribute__((vector_size(2 * LANES)));
typedef double Doubles __attribute__((vector_size(4 * LANES)));  // half as many, as wide

// LANES values, in float32 or as two halves in float64.
struct Values {
    const float* x;

    Floats floats() const {
        Floats v;
        std::memcpy(&v, x, sizeof v);
        return v;
    }
    Doubles doubles(int half) const {
        HalfFloats v;
        std::memcpy(&v, x + half * (LANES / 2), sizeof v);
#ifdef __AVX512F__  // which GCC does in halves
        return _mm512_cvtps_pd(v);
#else
        return __builtin_convertvector(v, Doubles);
#endif
    }
};

template <class T, int COUNT>
struct VectorOf {
    typedef T type __attribute__((vector_size(COUNT * sizeof(T))));
};

template <class Part, int FIRST, class Whole, int... I>
Part part(const Whole& whole, std::integer_sequence<int, I...>) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(whole, whole, (FIRST + I)...);
#else
    return Part{whole[FIRST + I]...};
#endif
}

// Fold lanes in halves, in registers: through memory it would cost more than a short row.
template <class T, int COUNT, class Fold>
T folded(typename VectorOf<T, COUNT>::type lanes, Fold fold) {
    if constexpr (COUNT == 2) {
        return fold(lanes[0], lanes[1]);
    } else {
        using Half = typename VectorOf<T, COUNT / 2>::type;
        constexpr auto each = std::make_integer_sequence<int, COUNT / 2>{};
        const Half low = part<Half, 0>(lanes, each), high = part<Half, COUNT / 2>(lanes, each);
        return folded<T, COUNT / 2>(fold(low, high), fold);
    }
}

constexpr auto sum = [](auto a, auto b) { return a + b; };
constexpr auto lesser = [](auto a, auto b) { return b < a ? b : a; };
constexpr auto greater = [](auto a, auto b) { return b > a ? b : a; };

// Fold a column, some numbers at a time.
template <class Fold>
double folded_column(const double* column, int64_t rows, Fold fold) {
    constexpr int AT_ONCE = LANES / 2;
    double all = column[0];
    int64_t i = 1;
    if (rows >= AT_ONCE) {
        Doubles lanes, next;
        std::memcpy(&lanes, column, sizeof lanes);
        for (i = AT_ONCE; i + AT_ONCE <= rows; i += AT_ONCE) {
            std::memcpy(&next, column + i, sizeof next);
            lanes = fold(lanes, next);
        }
        all = folded<double, AT_ONCE>(lanes, fold);
    }
    for (; i < rows; ++i) all = fold(all, column[i]);
    return all;
}

double total(const Doubles* halves) {
    return folded<double, LANES / 2>(halves[0] + halves[1], sum);
}

// Each statistic takes LANES values at a time, then the rest one by one, and ends by
// adding what it found to the numbers of its row, in columns of which each is `rows` long.

template <int HIGHEST>
struct Powers {  // sums of (x - centre)^k for k = 1..HIGHEST
    double centre;
    Doubles lanes[HIGHEST][2] = {};
    double rest[HIGHEST] = {};

    void take(Values v) {
        for (int half = 0; half < 2; ++half) {
            const Doubles d = v.doubles(half) - centre;
            Doubles power = d;
            for (int k = 0; k < HIGHEST; ++k, power *= d) lanes[k][half] += power;
        }
    }
    void take(float v) {
        const double d = v - centre;
        double power = d;
        for (int k = 0; k < HIGHEST; ++k, power *= d) rest[k] += power;
    }
    void end(double* row, int64_t rows) const {
        for (int k = 0; k < HIGHEST; ++k) row[k * rows] += total(lanes[k]) + rest[k];
    }
};

struct Ends {
    static constexpr float FAR = std::numeric_limits<float>::infinity();
    Floats low = Floats{} + FAR, high = Floats{} - FAR;

    void take(Floats v) {
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    void take(Values v) { take(v.floats()); }
    void take(float v) { take(Floats{} + v); }
    void end(double* row, int64_t rows) const {
        const float least = folded<float, LANES>(low, lesser);
        const float greatest = folded<float, LANES>(high, greater);
        row[0] = least < row[0] ? least : row[0];
        row[rows] = greatest > row[rows] ? greatest : row[rows];
    }
};

struct Absolute {
    Doubles lanes[2] = {};
    double rest = 0.0;

    void take(Values v) {
        for (int half = 0; half < 2; ++half) {
            const Doubles d = v.doubles(half);
            lanes[half] += d < 0.0 ? -d : d;
        }
    }
    void take(float v) { rest += std::fabs(v); }
    void end(double* row, int64_t) const { *row += total(lanes) + rest; }
};

template <class Test>
struct Count {
    Test test;
    Ints lanes{};
    int32_t rest = 0;

    void take(Values v) { lanes -= test(v.floats()); }
    void take(float v) { rest += test.one(v); }
    void end(double* row, int64_t) const {
        *row += rest + folded<int32_t, LANES>(lanes, sum);
    }
};

struct Zero {
    Ints operator()(Floats v) const { return v == 0.0f; }
    bool one(float v) const { return v == 0.0f; }
};

struct Above {
    float limit;
    Ints operator()(Floats v) const { return v > limit; }
    bool one(float v) const { return v > limit; }
};

struct Outside {
    float low, high;
    Ints operator()(Floats v) const { return (v < low) | (v > high); }
    bool one(float v) const { return v < low || v > high; }
};

template <class Statistic>
void read(const float* x, int64_t count, Statistic statistic, double* row, int64_t rows) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        __builtin_prefetch(x + i + AHEAD);  // never faults, wherever it points
        statistic.take(Values{x + i});
    }
    for (; i < count; ++i) statistic.take(x[i]);
    statistic.end(row, rows);
}

}  // namespace

// The statistics that can be asked for, as bits.
constexpr int32_t SAMPLES = 4;  // at most
enum Wanted { MOMENTS = 1, HIGHER = 2, ENDS = 4, ABSOLUTE = 8, ZEROS = 16, ABOVE = 32, OUTSIDE = 64 };

// The constants that compiled_functions.py has too, then -1.
extern "C" const int32_t* scan_constants() {
    static const int32_t all[] = {SAMPLES, MOMENTS, HIGHER, ENDS, ABSOLUTE,
                                  ZEROS,   ABOVE,   OUTSIDE, -1};
    return all;
}

// Write the columns of what is wanted, `rows` numbers each, in the order of the bits:
// sums of x - centre and of its square; of its cube and fourth power, which need the
// moments; least and greatest value; sum of |x|; how many x are 0, are > limit, are
// < low or > high.  Behind them, each column's own total or extreme.  Of each stride, every
// so many values go to `taken`, one stride's behind the other's: they are near just then.
extern "C" void scan(const float* x, int64_t rows, int64_t width, int32_t wanted, double centre,
                     float limit, float low, float high, double* out, const int64_t* strides,
                     int32_t samples, float* taken) {
    double* next = out;
    const auto columns = [&](Wanted what, int count) {
        double* const start = wanted & what ? next : nullptr;
        if (start) std::fill(start, next += count * rows, 0.0);
        return start;
    };
    double* const moments = columns(MOMENTS, 2);
    double* const higher = columns(HIGHER, 2);
    double* const ends = columns(ENDS, 2);
    double* const absolute = columns(ABSOLUTE, 1);
    double* const zeros = columns(ZEROS, 1);
    double* const above = columns(ABOVE, 1);
    double* const outside = columns(OUTSIDE, 1);
    if (ends) {
        std::fill(ends, ends + rows, Ends::FAR);
        std::fill(ends + rows, ends + 2 * rows, -Ends::FAR);
    }
    int64_t next_of[SAMPLES] = {};
    float* to[SAMPLES];
    for (int32_t k = 0; k < samples; ++k) {
        to[k] = taken;
        taken += (rows * width + strides[k] - 1) / strides[k];
    }
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t first = 0; first < width; first += BLOCK) {
            const int64_t start = row * width + first, count = std::min(BLOCK, width - first);
            const float* block = x + start;
            const auto take = [&](double* column, auto statistic) {
                if (column) read(block, count, statistic, column + row, rows);
            };
            if (higher) take(moments, Powers<4>{centre});
            else take(moments, Powers<2>{centre});
            take(ends, Ends{});
            take(absolute, Absolute{});
            take(zeros, Count<Zero>{});
            take(above, Count<Above>{{limit}});
            take(outside, Count<Outside>{{low, high}});
            for (int32_t k = 0; k < samples; ++k)
                for (; next_of[k] < start + count; next_of[k] += strides[k])
                    *to[k]++ = x[next_of[k]];
        }
    }
    double* const totals = next;
    for (const double* column = out; column < totals; column += rows) {
        *next++ = ends && column == ends          ? folded_column(column, rows, lesser)
                  : ends && column == ends + rows ? folded_column(column, rows, greater)
                                                  : folded_column(column, rows, sum);
    }
}

// Write the sums of d, d^2 and d^4 down each column, d = x - centre: (rows, columns) -> (3, columns).
extern "C" void column_powers(const float* __restrict x, int64_t rows, int64_t columns,
                              const double* __restrict centre, double* __restrict out) {
    std::fill(out, out + 3 * columns, 0.0);
    for (int64_t row = 0; row < rows; ++row, x += columns) {
        for (int64_t c = 0; c < columns; ++c) {
            const double d = x[c] - centre[c], square = d * d;
            out[c] += d;
            out[columns + c] += square;
            out[2 * columns + c] += square * square;
        }
    }
}
