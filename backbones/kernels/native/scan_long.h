// The scan over longer windows, without a subtraction. Blocks of tokens are as long as the window, w. So a token's
// window starts in the previous block, and
//   h_t = p_t + P_t q_{t-w+1},
// where p_t is the result of a scan from the block's start, P_t the product of the decays from there to t, and q_i the
// result of a scan from token i to the end of the previous block. The cost is two exponentials per token, whatever w
// is. No large numbers are subtracted, so slow decays lose no accuracy, in values or gradients.
#pragma once

#include "scan_common.h"

namespace {

// q, for one group of states. `dt`, `u` and `B` start at the current block. Slot k of q is token k - w, and slot w is
// zero. `kept`, if not null, gets the product of the decays from the token after k - w to the end of its block.
INLINE void suffixes(int64_t window, int64_t states, const float* dt, const float* u, const float* B, const Vec* A,
                     float* q, float* kept) {
  Vec sum[kBlock] = {}, product[kBlock];
  for (int j = 0; j < kBlock; ++j) {
    product[j] = splat(1.0f);
    store(q + (window * kBlock + j) * kWidth, Vec{});
  }
  for (int64_t k = window - 1; k > 0; --k) {
    const Vec step = load(dt + (k - window) * kWidth), input = load(u + (k - window) * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      sum[j] += product[j] * (input * B[(k - window) * states + j]);
      store(q + (k * kBlock + j) * kWidth, sum[j]);
      if (kept) store(kept + (k * kBlock + j) * kWidth, product[j]);
      product[j] *= exp2_of_product(step, A[j]);
    }
  }
}

INLINE void advance_long(int64_t size, int64_t states, const float* dt, const float* u, const float* B, const float* C,
                         const Vec* A, const float* q, float* y) {
  Vec p[kBlock] = {}, product[kBlock];
  for (int j = 0; j < kBlock; ++j) product[j] = splat(1.0f);
  for (int64_t i = 0; i < size; ++i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth);
    Vec out = load(y + i * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      const Vec a = exp2_of_product(step, A[j]);
      p[j] = a * p[j] + input * B[i * states + j];
      product[j] *= a;
      out += (p[j] + product[j] * load(q + ((i + 1) * kBlock + j) * kWidth)) * C[i * states + j];
    }
    store(y + i * kWidth, out);
  }
}

// What the forward sweep over one block keeps: decays, p and P of its tokens, and q of the previous block (`suffixes`).
struct Kept {
  float *a, *p, *product, *q, *product_before;

  void take(Scratch& scratch, int64_t size) {
    const int64_t count = (size + 1) * kBlock * kWidth;
    a = scratch.take(count);
    p = scratch.take(count);
    product = scratch.take(count);
    q = scratch.take(count);
    product_before = scratch.take(count);
  }
};

// Gradients through p and P, which depend on the block's own tokens.
INLINE void retreat_long(int64_t size, int64_t states, const float* dt, const float* u, const float* dy, const float* B,
                         const float* C, const Vec* A, const Kept& kept, Vec* dA, const Gradients& d) {
  Vec p[kBlock] = {}, product[kBlock];
  for (int j = 0; j < kBlock; ++j) {
    product[j] = splat(1.0f);
    store(kept.p + j * kWidth, Vec{});  // slot i + 1 is token i
  }
  for (int64_t i = 0; i < size; ++i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      const int64_t place = (i * kBlock + j) * kWidth;
      const Vec a = exp2_of_product(step, A[j]);
      p[j] = a * p[j] + input * B[i * states + j];
      product[j] *= a;
      store(kept.a + place, a);
      store(kept.p + place + kBlock * kWidth, p[j]);
      store(kept.product + place, product[j]);
    }
  }
  Vec g[kBlock] = {}, through_product[kBlock] = {};
  for (int64_t i = size - 1; i >= 0; --i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth), out = load(dy + i * kWidth);
    Vec du = load(d.du + i * kWidth), ddt = load(d.ddt + i * kWidth);
    Vec to_B[kBlock], to_C[kBlock];
    for (int j = 0; j < kBlock; ++j) {
      const int64_t place = (i * kBlock + j) * kWidth, after = place + kBlock * kWidth;
      const Vec from_before = load(kept.product + place) * load(kept.q + after);
      const Vec here = out * C[i * states + j], grad = g[j] + here;
      to_C[j] = out * (load(kept.p + after) + from_before);
      to_B[j] = grad * input;
      du += grad * B[i * states + j];
      through_product[j] += here * from_before;
      g[j] = grad * load(kept.a + place);
      const Vec exponent = g[j] * load(kept.p + place) + through_product[j];
      dA[j] += exponent * step;
      ddt += exponent * A[j];
    }
    store(d.du + i * kWidth, du);
    store(d.ddt + i * kWidth, ddt);
    add_states(d.dB + i * states / kBlock * kWidth, to_B);
    add_states(d.dC + i * states / kBlock * kWidth, to_C);
  }
}

// Gradients through q, which depends on the tokens of the previous block. Slot k is token k - w.
INLINE void retreat_before(int64_t size, int64_t window, int64_t states, const float* dt, const float* u,
                           const float* dy, const float* B, const float* C, const Vec* A, const Kept& kept, Vec* dA,
                           const Gradients& d) {
  Vec received[kBlock] = {}, exponent[kBlock] = {};  // from all q up to here; of this token's exponent
  for (int64_t k = 1; k < window; ++k) {
    const Vec step = load(dt + (k - window) * kWidth), input = load(u + (k - window) * kWidth);
    const Vec out = k <= size ? load(dy + (k - 1) * kWidth) : Vec{};
    Vec du = load(d.du_before + k * kWidth), ddt = load(d.ddt_before + k * kWidth);
    Vec to_B[kBlock];
    for (int j = 0; j < kBlock; ++j) {
      if (k <= size)
        received[j] += out * C[(k - 1) * states + j] * load(kept.product + ((k - 1) * kBlock + j) * kWidth);
      dA[j] += exponent[j] * step;
      ddt += exponent[j] * A[j];
      const Vec grad = received[j] * load(kept.product_before + (k * kBlock + j) * kWidth);
      to_B[j] = grad * input;
      du += grad * B[(k - window) * states + j];
      exponent[j] += to_B[j] * B[(k - window) * states + j];
    }
    store(d.du_before + k * kWidth, du);
    store(d.ddt_before + k * kWidth, ddt);
    add_states(d.dB_before + k * states / kBlock * kWidth, to_B);
  }
}

}  // namespace
