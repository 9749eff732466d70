// Reading the sums of the rows of a float32 matrix in one way through it.
//
// A block of a row is taken into the nearest cache once, and each statistic that is
// wanted goes over it there.  Sums are kept in float64, so that no digit of a float32 is
// lost; a NaN is in no count and in no extreme, but in every sum.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>

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
        return __builtin_convertvector(v, Doubles);
    }
};

// Fold lanes in halves: a chain of as many steps as lanes would cost more than a short row.
template <int COUNT, class V, class Fold>
auto folded(V lanes, Fold fold) {
    std::decay_t<decltype(lanes[0])> values[COUNT];
    std::memcpy(values, &lanes, sizeof values);
    for (int half = COUNT / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) values[i] = fold(values[i], values[i + half]);
    return values[0];
}

double total(const Doubles* halves) {
    return folded<LANES / 2>(halves[0] + halves[1], [](double a, double b) { return a + b; });
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
        const float least = folded<LANES>(low, [](float a, float b) { return b < a ? b : a; });
        const float greatest = folded<LANES>(high, [](float a, float b) { return b > a ? b : a; });
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
        *row += rest + folded<LANES>(lanes, [](int32_t a, int32_t b) { return a + b; });
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

// What can be asked for: bits.
enum Wanted { MOMENTS = 1, HIGHER = 2, ENDS = 4, ABSOLUTE = 8, ZEROS = 16, ABOVE = 32, OUTSIDE = 64 };

// Write the columns of what is wanted, `rows` numbers each, in the order of the bits:
// sums of x - centre and of its square; of its cube and fourth power, which need the
// moments; least and greatest value; sum of |x|; how many x are 0, are > limit, are
// < low or > high.  Behind them, each column's own total or extreme.
extern "C" void scan(const float* x, int64_t rows, int64_t width, int32_t wanted, double centre,
                     float limit, float low, float high, double* out) {
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
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t first = 0; first < width; first += BLOCK) {
            const float* block = x + row * width + first;
            const int64_t count = std::min(BLOCK, width - first);
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
        }
    }
    double* const totals = next;
    for (const double* column = out; column < totals; column += rows) {
        const double* const last = column + rows;
        *next++ = !ends || (column != ends && column != ends + rows)
                      ? std::accumulate(column, last, 0.0)
                      : column == ends ? *std::min_element(column, last)
                                       : *std::max_element(column, last);
    }
}
