// Convolution, 5 x 5 without padding: forward, and its two gradients.
//
// a [IN][SIZE][SIZE], w [OUT][IN][5][5], z [OUT][SIDE][SIDE], SIDE = SIZE - 4, all of V.
// A block of sums stays in registers through the inner loops; the data that these loops read
// (one input plane, a block of output planes, their weights) fit the first-level cache.
#pragma once

#include "vector.hpp"

namespace lockstep {

// z[o][y][x] = b[o] + sum over i, ky, kx of w[o][i][ky][kx] a[i][y + ky][x + kx] for OUTS outputs
template <int IN, int OUTS, int SIZE, int PIXELS>
void convolve(const V* a, const V* w, const V* b, V* z) {
  constexpr int SIDE = SIZE - 4;
  static_assert(SIDE % PIXELS == 0, "blocks must tile the output");
  for (int i = 0; i < IN; ++i)
    for (int y = 0; y < SIDE; ++y)
      for (int x = 0; x < SIDE; x += PIXELS) {
        V* to = z + y * SIDE + x;
        V sum[OUTS][PIXELS];
        UNROLL for (int k = 0; k < OUTS; ++k)
          UNROLL for (int j = 0; j < PIXELS; ++j)
            sum[k][j] = i == 0 ? b[k] : to[k * SIDE * SIDE + j];
        for (int ky = 0; ky < 5; ++ky) {
          const V* row = a + (i * SIZE + y + ky) * SIZE + x;
          const V* weight = w + (i * 5 + ky) * 5;
          UNROLL for (int kx = 0; kx < 5; ++kx)
            UNROLL for (int k = 0; k < OUTS; ++k)
              UNROLL for (int j = 0; j < PIXELS; ++j)
                sum[k][j] += weight[k * IN * 25 + kx] * row[kx + j];
        }
        UNROLL for (int k = 0; k < OUTS; ++k)
          UNROLL for (int j = 0; j < PIXELS; ++j) to[k * SIDE * SIDE + j] = sum[k][j];
      }
}

// dw[o][i][ky][kx] += sum over y, x of dz[o][y][x] a[i][y + ky][x + kx], over ROWS rows y:
// a starts at the first of them; the planes of dz are PLANE apart.
template <int IN, int OUT, int SIZE, int ROWS, int PLANE, int BLOCK>
void convolve_weight_gradient(const V* a, const V* dz, V* dw) {
  constexpr int SIDE = SIZE - 4, STRIP = 4;
  static_assert(OUT % BLOCK == 0 && SIDE % STRIP == 0, "blocks must tile the output");
  for (int o = 0; o < OUT; o += BLOCK)
    for (int i = 0; i < IN; ++i)
      for (int ky = 0; ky < 5; ++ky) {
        V sum[BLOCK][5] = {};
        for (int y = 0; y < ROWS; ++y)
          for (int x = 0; x < SIDE; x += STRIP) {
            const V* row = a + (i * SIZE + y + ky) * SIZE + x;
            const V* from = dz + o * PLANE + y * SIDE + x;
            UNROLL for (int j = 0; j < STRIP; ++j)
              UNROLL for (int k = 0; k < BLOCK; ++k)
                UNROLL for (int kx = 0; kx < 5; ++kx)
                  sum[k][kx] += from[k * PLANE + j] * row[j + kx];
          }
        V* to = dw + ((o * IN + i) * 5 + ky) * 5;
        UNROLL for (int k = 0; k < BLOCK; ++k)
          UNROLL for (int kx = 0; kx < 5; ++kx) to[k * IN * 25 + kx] += sum[k][kx];
      }
}

// da[i][y][x] = sum over o, ky, kx of w[o][i][ky][kx] dz[o][y - ky][x - kx], where dz is zero
// outside: its missing rows are skipped, and along x each dz adds to the 5 sums it belongs to.
template <int IN, int OUT, int SIZE, int BLOCK>
void convolve_input_gradient(const V* dz, const V* w, V* da) {
  constexpr int SIDE = SIZE - 4;
  static_assert(OUT % BLOCK == 0, "blocks must tile the output");
  for (int o = 0; o < OUT; o += BLOCK)
    for (int i = 0; i < IN; ++i)
      for (int y = 0; y < SIZE; ++y) {
        const int first = y < SIDE ? 0 : y - SIDE + 1, last = y < 4 ? y : 4;
        V* to = da + (i * SIZE + y) * SIZE;
        V sum[SIZE];
        UNROLL for (int x = 0; x < SIZE; ++x) sum[x] = o == 0 ? V{} : to[x];
        for (int k = o; k < o + BLOCK; ++k)
          for (int ky = first; ky <= last; ++ky) {
            const V* from = dz + (k * SIDE + y - ky) * SIDE;
            const V* weight = w + ((k * IN + i) * 5 + ky) * 5;
            UNROLL for (int x = 0; x < SIDE; ++x)
              UNROLL for (int kx = 0; kx < 5; ++kx) sum[x + kx] += weight[kx] * from[x];
          }
        UNROLL for (int x = 0; x < SIZE; ++x) to[x] = sum[x];
      }
}

}  // namespace lockstep
