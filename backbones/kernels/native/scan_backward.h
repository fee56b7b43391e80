// The gradients of the scan, one chunk of tokens at a time, from the last. The states of a chunk are recomputed from
// the state saved at its start and stay with their decays in the first-level cache. Then the chunk is processed
// backwards.
//
// With g_t the gradient of h_t: g_t = C_t dy_t + exp(dt_{t+1} A) g_{t+1}. The exponent dt_t A gets a_t g_t h_{t-1}, and
// a_t g_t is also the gradient that h_{t-1} receives. A negative decay a_t = 2 exp(dt_t A) - 1 has the slope a_t + 1. Windows: see scan_window.h and scan_long.h.
#pragma once

#include "scan_long.h"
#include "scan_window.h"

namespace {

constexpr float kLn2 = 0.6931471805599453f;

template <bool kNegative>
INLINE void retreat(int64_t size, int64_t states, const float* dt, const float* u, const float* dy, const float* B,
                    const float* C, const Vec* A, Vec* h, float* a_kept, float* h_kept, Vec* g, Vec* dA,
                    const Gradients& d) {
  for (int j = 0; j < kBlock; ++j) store(h_kept + j * kWidth, h[j]);  // slot i + 1 is token i
  for (int64_t i = 0; i < size; ++i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      const Vec a = decay_of<kNegative>(step, A[j]);
      h[j] = a * h[j] + input * B[i * states + j];
      store(a_kept + (i * kBlock + j) * kWidth, a);
      store(h_kept + ((i + 1) * kBlock + j) * kWidth, h[j]);
    }
  }
  for (int64_t i = size - 1; i >= 0; --i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth), out = load(dy + i * kWidth);
    Vec du = load(d.du + i * kWidth), ddt = load(d.ddt + i * kWidth);
    Vec to_B[kBlock], to_C[kBlock];
    for (int j = 0; j < kBlock; ++j) {
      const Vec grad = g[j] + out * C[i * states + j];
      to_C[j] = out * load(h_kept + ((i + 1) * kBlock + j) * kWidth);
      to_B[j] = grad * input;
      du += grad * B[i * states + j];
      g[j] = grad * load(a_kept + (i * kBlock + j) * kWidth);
      const Vec exponent = (kNegative ? g[j] + grad : g[j]) * load(h_kept + (i * kBlock + j) * kWidth);
      dA[j] += exponent * step;
      ddt += exponent * A[j];
    }
    store(d.du + i * kWidth, du);
    store(d.ddt + i * kWidth, ddt);
    add_states(d.dB + i * states / kBlock * kWidth, to_B);
    add_states(d.dC + i * states / kBlock * kWidth, to_C);
  }
}

// Adds the sums over lanes to the gradient of B or C, from token t of a row on.
INLINE void spill_states(const ScanArguments& a, const float* sums, int64_t row, int64_t t, int64_t count, float* out) {
  const int64_t blocks = padded_states(a.state) / kBlock;
  for (int64_t i = 0; i < count; ++i) {
    float* token = out + (row * a.length + t + i) * a.state;
    for (int64_t n = 0; n < a.state; n += kBlock) {
      float lanes[kBlock];
      sum_groups(load(sums + (i * blocks + n / kBlock) * kWidth), lanes);
      for (int64_t j = 0; j < kBlock && n + j < a.state; ++j) token[n + j] += lanes[j];
    }
  }
}

// kMode: 0, no window; 1, a window of any length; else one of kMode tokens.
template <int kMode, bool kNegative = false>
void backward_rows(const ScanBackward& b, int64_t group, float* memory) {
  const ScanArguments& a = b.in;
  constexpr bool kLong = kMode == 1, kDirect = kMode > 1;
  constexpr int kCarried = kDirect ? kMode - 1 : 1;
  const int64_t states = padded_states(a.state), width = padded(a.channels), blocks = states / kBlock, w = a.window;
  const int64_t size = part_size(a);
  const int64_t before = kDirect ? kMode - 1 : w;  // tokens before a chunk that its states depend on
  Scratch scratch{memory};
  const float* A = a.decays;
  float* carry = scratch.take(kCarried * states * width);
  float* B = scratch.take((size + before) * states);
  float* C = scratch.take(size * states);
  float* a_kept = kLong ? nullptr : scratch.take((kDirect ? (size + 1) * kMode : size) * kBlock * kWidth);
  float* h_kept = kMode == 0 ? scratch.take((size + 1) * kBlock * kWidth) : nullptr;
  float* dy = scratch.take(size * kWidth);
  Gradients d{};
  d.du = scratch.take(size * kWidth);
  d.ddt = scratch.take(size * kWidth);
  d.dB = scratch.take(size * blocks * kWidth);
  d.dC = scratch.take(size * blocks * kWidth);
  Chunk chunk;
  chunk.take(scratch, size, w);
  Kept kept{};
  float *later_du = nullptr, *later_ddt = nullptr;  // gradients of this chunk's tokens from the next chunk
  if (kLong) {
    kept.take(scratch, size);
    d.du_before = scratch.take(size * kWidth);
    d.ddt_before = scratch.take(size * kWidth);
    d.dB_before = scratch.take(size * blocks * kWidth);
    later_du = scratch.take(size * width);
    later_ddt = scratch.take(size * width);
  }
  float* dA_sum = b.dA + group * states * width;
  float* dD_sum = b.dD + group * width;

  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row) {
    clear(carry, kCarried * states * width);
    clear(b.dB + row * a.length * a.state, a.length * a.state);
    clear(b.dC + row * a.length * a.state, a.length * a.state);
    if (kLong) {
      clear(later_du, size * width);
      clear(later_ddt, size * width);
    }

    for (int64_t number = (a.length + size - 1) / size - 1; number >= 0; --number) {
      const int64_t first = number * size;
      const int64_t count = a.length - first < size ? a.length - first : size;
      const float* saved = nullptr;
      if (kMode == 0 && number > 0) saved = b.saved + (row * (chunks(a.length) - 1) + number - 1) * states * width;
      pack_states(a.B, a, row, first - before, count + before, B);
      pack_states(a.C, a, row, first, count, C);
      clear(d.dB, count * blocks * kWidth);
      clear(d.dC, count * blocks * kWidth);
      if (kLong) clear(d.dB_before, size * blocks * kWidth);

      for (int64_t c = 0; c < a.channels; c += kWidth) {
        const int64_t lanes = a.channels - c;
        const Vec D = load_some(a.D + c, lanes);
        Vec dD = {};
        chunk.fill(a, row, first, count, c);
        for (int64_t i = 0; i < count; ++i) {
          Vec out = load_some(b.dy.at(row, first + i) + c, lanes);
          if (a.gate.data) {
            const int64_t place = (row * a.length + first + i) * a.channels + c;
            const Vec gate = load_some(a.gate.at(row, first + i) + c, lanes), s = sigmoid(gate);
            const Vec slope = silu_slope(gate, s);
            store_some(b.dgate + place, out * load_some(b.ungated + place, lanes) * slope, lanes);
            out *= gate * s;
          }
          store(dy + i * kWidth, out);
          dD += out * load_some(a.x.at(row, first + i) + c, lanes);
        }
        store(dD_sum + c, load(dD_sum + c) + dD);
        clear(d.du, count * kWidth);
        clear(d.ddt, count * kWidth);
        if (kLong) {
          clear(d.du_before, size * kWidth);
          clear(d.ddt_before, size * kWidth);
        }

        const float *dt = chunk.dt_now(w), *u = chunk.u_now(w);
        for (int64_t n = 0; n < states; n += kBlock) {
          const float* B_now = B + before * states + n;
          Vec decay[kBlock], h[kBlock], g[kCarried * kBlock];
          Vec dA[kBlock] = {};  // of this chunk alone: sums of sums round less
          for (int j = 0; j < kBlock; ++j) {
            const int64_t place = (n + j) * width + c;
            decay[j] = load(A + place);
            h[j] = saved ? load(saved + place) : Vec{};
            for (int k = 0; k < kCarried; ++k) g[k * kBlock + j] = load(carry + k * states * width + place);
          }
          Gradients part = d;
          part.dB += n / kBlock * kWidth;
          part.dC += n / kBlock * kWidth;
          if constexpr (kLong) {
            part.dB_before += n / kBlock * kWidth;
            if (number > 0)
              suffixes(w, states, dt, u, B_now, decay, kept.q, kept.product_before);
            else
              clear(kept.q, (w + 1) * kBlock * kWidth);
            retreat_long(count, states, dt, u, dy, B_now, C + n, decay, kept, dA, part);
            if (number > 0) retreat_before(count, w, states, dt, u, dy, B_now, C + n, decay, kept, dA, part);
          } else if constexpr (kDirect) {
            retreat_window<kMode>(count, states, dt, u, dy, B_now, C + n, decay, a_kept, g, dA, part.du, part.ddt,
                                  part.dB, part.dC);
          } else {
            retreat<kNegative>(count, states, dt, u, dy, B_now, C + n, decay, h, a_kept, h_kept, g, dA, part);
          }
          for (int j = 0; j < kBlock; ++j) {
            const int64_t place = (n + j) * width + c;
            for (int k = 0; k < kCarried; ++k) store(carry + k * states * width + place, g[k * kBlock + j]);
            store(dA_sum + place, load(dA_sum + place) + dA[j]);
          }
        }

        for (int64_t i = 0; i < count; ++i) {
          const int64_t place = (row * a.length + first + i) * a.channels + c;
          Vec du = load(d.du + i * kWidth), ddt = load(d.ddt + i * kWidth);
          if (kLong) {
            du += load(later_du + i * width + c);
            ddt += load(later_ddt + i * width + c);
          }
          ddt = ddt * kLn2 + du * load_some(a.x.at(row, first + i) + c, lanes);
          store_some(b.dx + place, du * load(dt + i * kWidth) + D * load(dy + i * kWidth), lanes);
          store_some(b.ddt + place, ddt * load(chunk.slope_now(w) + i * kWidth), lanes);
        }
        for (int64_t i = 0; kLong && i < size; ++i) {  // the previous chunk is complete
          store(later_du + i * width + c, load(d.du_before + i * kWidth));
          store(later_ddt + i * width + c, load(d.ddt_before + i * kWidth));
        }
      }
      spill_states(a, d.dB, row, first, count, b.dB);
      spill_states(a, d.dC, row, first, count, b.dC);
      if (kLong && number > 0) spill_states(a, d.dB_before, row, first - w, size, b.dB);
    }
  }
}

void scan_backward(const ScanBackward& b, int64_t group, float* scratch) {
  switch (b.in.window) {
    case 0: return b.in.negative ? backward_rows<0, true>(b, group, scratch) : backward_rows<0>(b, group, scratch);
    case 2: return backward_rows<2>(b, group, scratch);
    case 3: return backward_rows<3>(b, group, scratch);
    case 4: return backward_rows<4>(b, group, scratch);
    case 5: return backward_rows<5>(b, group, scratch);
    case kLongestDirect: return backward_rows<kLongestDirect>(b, group, scratch);
    default: return backward_rows<1>(b, group, scratch);
  }
}

}  // namespace
