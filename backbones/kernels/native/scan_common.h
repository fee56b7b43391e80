// Shared by both directions of the scan: the inputs of one chunk of tokens, for one vector of channels, contiguous.
#pragma once

#include "scan.h"
#include "vector.h"

namespace {

// Allocates parts of a scratch buffer, each aligned to a cache line.
struct Scratch {
  float* next;
  float* take(int64_t count) {
    float* start = next;
    next += (count + 15) / 16 * 16;
    return start;
  }
};

INLINE void clear(float* numbers, int64_t count) {
  std::memset(numbers, 0, static_cast<size_t>(count) * sizeof(float));
}

// Copies (count, state) of a row from token t on, padded with zeros. Tokens before the first are zero.
INLINE void pack_states(const Rows& source, const ScanArguments& a, int64_t row, int64_t t, int64_t count, float* out) {
  const int64_t states = padded_states(a.state);
  clear(out, count * states);
  for (int64_t i = t < 0 ? -t : 0; i < count; ++i)
    std::memcpy(out + i * states, source.at(row, t + i), static_cast<size_t>(a.state) * sizeof(float));
}

// One vector of channels over a chunk of tokens. Index i is token first + i. Arrays with history start `window` tokens
// earlier.
struct Chunk {
  float *dt, *u;  // with history: the time step, and dt * x
  float *slope;  // derivative of softplus at dt's input; 1 without softplus

  void take(Scratch& scratch, int64_t size, int64_t window) {
    dt = scratch.take((size + window) * kWidth);
    u = scratch.take((size + window) * kWidth);
    slope = scratch.take((size + window) * kWidth);
  }

  void fill(const ScanArguments& a, int64_t row, int64_t first, int64_t size, int64_t channel) {
    const int64_t count = a.channels - channel;
    for (int64_t i = 0; i < size + a.window; ++i) {
      const int64_t t = first - a.window + i;
      Vec step = {}, input = {}, rate = splat(1.0f);
      if (t >= 0) {
        __builtin_prefetch(a.dt.at(row, t) + channel + 2 * kWidth);
        __builtin_prefetch(a.x.at(row, t) + channel + 2 * kWidth);
        step = load_some(a.dt.at(row, t) + channel, count);
        if (a.softplus) step = softplus(step, &rate);
        input = step * load_some(a.x.at(row, t) + channel, count);
      }
      store(dt + i * kWidth, step);
      store(u + i * kWidth, input);
      store(slope + i * kWidth, rate);
    }
  }

  // Without history: only the chunk's own tokens.
  const float* dt_now(int64_t window) const { return dt + window * kWidth; }
  const float* u_now(int64_t window) const { return u + window * kWidth; }
  const float* slope_now(int64_t window) const { return slope + window * kWidth; }
};

// Sums of the backward pass for one vector of channels and one chunk.
struct Gradients {
  float *du, *ddt;  // (size) of dt * x, and of dt through the decays, the latter in units of log2(e)
  float *dB, *dC;  // (size, states / kBlock): sums over this vector's lanes, grouped as `gather4` leaves them
  float *du_before, *ddt_before, *dB_before;  // the same for the previous chunk, if a long window reaches into it
};

// The decay of a token: exp(step A), or with kNegative 2 exp(step A) - 1, with A in units of log2(e).
template <bool kNegative>
INLINE Vec decay_of(Vec step, Vec A) {
  const Vec power = exp2_of_product(step, A);
  return kNegative ? 2.0f * power - 1.0f : power;
}

INLINE void add_states(float* sums, const Vec part[kBlock]) {
  store(sums, load(sums) + gather4(part[0], part[1], part[2], part[3]));
}

}  // namespace
