// h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t, y_t = C_t h_t + D x_t. With `negative` the decay is 2 exp(dt_t A) - 1.
// With a window the state depends on the last tokens alone: see scan_window.h (short windows) and scan_long.h (others).
#pragma once

#include "scan_long.h"
#include "scan_window.h"

namespace {

// Advances kBlock states over the chunk and adds their part of y.
template <bool kNegative>
INLINE void advance(int64_t size, int64_t states, const float* dt, const float* u, const float* B, const float* C,
                    const Vec* A, Vec* h, float* y) {
  for (int64_t i = 0; i < size; ++i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth);
    Vec out = load(y + i * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      h[j] = decay_of<kNegative>(step, A[j]) * h[j] + input * B[i * states + j];
      out += h[j] * C[i * states + j];
    }
    store(y + i * kWidth, out);
  }
}

// kMode: 0, no window; 1, a window of any length; else one of kMode tokens.
template <int kMode, bool kNegative = false>
void forward_rows(const ScanForward& f, int64_t group, float* memory) {
  const ScanArguments& a = f.in;
  constexpr bool kLong = kMode == 1, kDirect = kMode > 1;
  const int64_t states = padded_states(a.state), width = padded(a.channels), w = a.window;
  const int64_t size = part_size(a);
  const int64_t before = kDirect ? kMode - 1 : w;  // tokens before a chunk that its states depend on
  Scratch scratch{memory};
  const float* A = a.decays;
  float* own_state = scratch.take(states * width);
  float* B = scratch.take((size + before) * states);
  float* C = scratch.take(size * states);
  float* q = kLong ? scratch.take((size + 1) * kBlock * kWidth) : nullptr;
  float* y = scratch.take(size * kWidth);
  Chunk chunk;
  chunk.take(scratch, size, w);

  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row) {
    float* carried = f.carried ? f.carried + row * a.state * a.channels : nullptr;
    // A carried state that needs no padding is updated in place.
    const bool in_place = carried && states == a.state && width == a.channels;
    float* state = in_place ? carried : own_state;
    if (!in_place) clear(state, states * width);
    for (int64_t n = 0; carried && !in_place && n < a.state; ++n)
      std::memcpy(state + n * width, carried + n * a.channels, static_cast<size_t>(a.channels) * sizeof(float));

    for (int64_t first = 0, number = 0; first < a.length; first += size, ++number) {
      const int64_t count = a.length - first < size ? a.length - first : size;
      if (kMode == 0 && f.saved && number > 0) {
        const int64_t place = row * (chunks(a.length) - 1) + number - 1;
        std::memcpy(f.saved + place * states * width, state, static_cast<size_t>(states * width) * sizeof(float));
      }
      pack_states(a.B, a, row, first - before, count + before, B);
      pack_states(a.C, a, row, first, count, C);

      for (int64_t c = 0; c < a.channels; c += kWidth) {
        const int64_t lanes = a.channels - c;
        chunk.fill(a, row, first, count, c);
        const Vec D = load_some(a.D + c, lanes);
        for (int64_t i = 0; i < count; ++i)
          store(y + i * kWidth, D * load_some(a.x.at(row, first + i) + c, lanes));
        const float *dt = chunk.dt_now(w), *u = chunk.u_now(w);
        for (int64_t n = 0; n < states; n += kBlock) {
          const float* B_now = B + before * states + n;
          Vec decay[kBlock], h[kBlock];
          for (int j = 0; j < kBlock; ++j) {
            decay[j] = load(A + (n + j) * width + c);
            h[j] = load(state + (n + j) * width + c);
          }
          if constexpr (kLong) {
            if (first > 0)
              suffixes(w, states, dt, u, B_now, decay, q, nullptr);
            else
              clear(q, (w + 1) * kBlock * kWidth);
            advance_long(count, states, dt, u, B_now, C + n, decay, q, y);
          } else if constexpr (kDirect) {
            advance_window<kMode>(count, states, dt, u, B_now, C + n, decay, y);
          } else {
            advance<kNegative>(count, states, dt, u, B_now, C + n, decay, h, y);
            for (int j = 0; j < kBlock; ++j) store(state + (n + j) * width + c, h[j]);
          }
        }
        for (int64_t i = 0; i < count; ++i) {
          const int64_t place = (row * a.length + first + i) * a.channels + c;
          Vec out = load(y + i * kWidth);
          if (f.ungated) store_some(f.ungated + place, out, lanes);
          if (a.gate.data) {
            const Vec gate = load_some(a.gate.at(row, first + i) + c, lanes);
            out *= gate * sigmoid(gate);
          }
          store_some(f.y + place, out, lanes);
        }
      }
    }
    for (int64_t n = 0; carried && !in_place && n < a.state; ++n)
      std::memcpy(carried + n * a.channels, state + n * width, static_cast<size_t>(a.channels) * sizeof(float));
  }
}

void scan_forward(const ScanForward& f, int64_t group, float* scratch) {
  switch (f.in.window) {
    case 0: return f.in.negative ? forward_rows<0, true>(f, group, scratch) : forward_rows<0>(f, group, scratch);
    case 2: return forward_rows<2>(f, group, scratch);
    case 3: return forward_rows<3>(f, group, scratch);
    case 4: return forward_rows<4>(f, group, scratch);
    case 5: return forward_rows<5>(f, group, scratch);
    case kLongestDirect: return forward_rows<kLongestDirect>(f, group, scratch);
    default: return forward_rows<1>(f, group, scratch);
  }
}

}  // namespace
