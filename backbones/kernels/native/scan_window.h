// The scan over short windows, without a subtraction. For a window of w tokens, it carries w partial states. p_k of
// token t is the result of a scan of tokens t-k .. t from zero, so p_0 = b_t, p_k = a_t p_{k-1} + b_t, and p_{w-1} is
// the state. The cost is w - 1 multiply-adds per token and no further exponential. Nothing cancels, as it would in the
// difference of two scans.
#pragma once

#include "scan_common.h"

namespace {

// Advances the partial states by one token and returns the window's state.
template <int kWindow>
INLINE Vec roll(Vec a, Vec b, Vec p[kWindow - 1]) {
  const Vec state = a * p[kWindow - 2] + b;
  for (int k = kWindow - 2; k > 0; --k) p[k] = a * p[k - 1] + b;
  p[0] = b;
  return state;
}

// In the chunk's arrays, index -1 is the token before it.
template <int kWindow>
INLINE void advance_window(int64_t size, int64_t states, const float* dt, const float* u, const float* B,
                           const float* C, const Vec* A, float* y) {
  Vec p[kBlock][kWindow - 1] = {};
  for (int64_t i = 1 - kWindow; i < size; ++i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth);
    Vec out = i < 0 ? Vec{} : load(y + i * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      const Vec state = roll<kWindow>(exp2_of_product(step, A[j]), input * B[i * states + j], p[j]);
      if (i >= 0) out += state * C[i * states + j];
    }
    if (i >= 0) store(y + i * kWidth, out);
  }
}

// Saved per token for the backward sweep: decay, state and the partial states p_1 .. p_{w-2}.
template <int kWindow>
constexpr int kKept = kWindow;

// `g` holds (kWindow - 1, kBlock): the gradients of this token's state from the outputs of the next w - 1 tokens, each
// already decayed. In the chunk's arrays, index -1 is the token before it.
template <int kWindow>
INLINE void retreat_window(int64_t size, int64_t states, const float* dt, const float* u, const float* dy,
                           const float* B, const float* C, const Vec* A, float* kept, Vec* g, Vec* dA, float* du_sum,
                           float* ddt_sum, float* dB, float* dC) {
  constexpr int64_t kToken = kKept<kWindow> * kBlock * kWidth;
  Vec p[kBlock][kWindow - 1] = {};
  for (int64_t i = 1 - kWindow; i < size; ++i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      const Vec a = exp2_of_product(step, A[j]);
      const Vec state = roll<kWindow>(a, input * B[i * states + j], p[j]);
      if (i < -1) continue;
      float* place = kept + (i + 1) * kToken + j * kKept<kWindow> * kWidth;
      store(place, a);
      store(place + kWidth, state);
      for (int k = 1; k < kWindow - 1; ++k) store(place + (k + 1) * kWidth, p[j][k]);
    }
  }
  for (int64_t i = size - 1; i >= 0; --i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth), out = load(dy + i * kWidth);
    const Vec input_before = load(u + (i - 1) * kWidth);
    Vec du = load(du_sum + i * kWidth), ddt = load(ddt_sum + i * kWidth);
    Vec to_B[kBlock], to_C[kBlock];
    for (int j = 0; j < kBlock; ++j) {
      const float* place = kept + (i + 1) * kToken + j * kKept<kWindow> * kWidth;
      const float* before = place - kToken;
      Vec e[kWindow];  // e_k: the gradient from the output k tokens later
      e[0] = out * C[i * states + j];
      Vec total = e[0];
      for (int k = 1; k < kWindow; ++k) {
        e[k] = g[(k - 1) * kBlock + j];
        total += e[k];
      }
      to_C[j] = out * load(place + kWidth);
      to_B[j] = total * input;
      du += total * B[i * states + j];
      Vec exponent = e[kWindow - 2] * (input_before * B[(i - 1) * states + j]);
      for (int k = 0; k < kWindow - 2; ++k) exponent += e[k] * load(before + (kWindow - 2 - k + 1) * kWidth);
      const Vec a = load(place);
      exponent *= a;
      dA[j] += exponent * step;
      ddt += exponent * A[j];
      for (int k = 0; k < kWindow - 1; ++k) g[k * kBlock + j] = a * e[k];
    }
    store(du_sum + i * kWidth, du);
    store(ddt_sum + i * kWidth, ddt);
    add_states(dB + i * states / kBlock * kWidth, to_B);
    add_states(dC + i * states / kBlock * kWidth, to_C);
  }
}

}  // namespace
