// The gradients of the scan. States are computed again, a chunk at a time from the state saved at its start, and kept
// with their decays in the first-level cache; then the chunk is gone through from its end.
//
// With g_t the gradient of h_t: g_t = C_t dy_t + exp(dt_{t+1} A) g_{t+1}. The exponent dt_t A gets a_t g_t h_{t-1}, and
// a_t g_t is what h_{t-1} receives anyway. With a window, what left it is one more input, of token t-w: it gets
// -exp(A S_t) g_t, and so does the exponent A S_t, times that input.
#pragma once

#include "scan_window.h"

namespace {

constexpr float kLn2 = 0.6931471805599453f;

// What the backward pass accumulates for one vector of channels and one chunk.
struct Gradients {
  float *du, *ddt;  // (size) of dt * x, and of dt through the decays, the latter in units of log2(e)
  float *dB, *dC;  // (size, states / kBlock): sums over this vector's lanes, grouped as `gather4` leaves them
  float *dB_old, *du_old, *dsums;  // with a window: of what left it, to be subtracted, and of the sums of dt
};

template <bool kWindow>
INLINE void retreat(int64_t size, int64_t states, const Chunk& chunk, int64_t window, const float* dy, const float* B,
                    const float* C, const float* B_old, const Vec* A, const Vec* h_before, float* a_kept, float* h_kept,
                    float* e_kept, Vec* g, Vec* dA, const Gradients& d) {
  const float *dt = chunk.dt_now(window), *u = chunk.u_now(window);
  Vec h[kBlock];
  for (int j = 0; j < kBlock; ++j) {
    h[j] = h_before[j];
    store(h_kept + j * kWidth, h[j]);
  }
  for (int64_t i = 0; i < size; ++i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth);
    for (int j = 0; j < kBlock; ++j) {
      const Vec a = exp2_of_product(step, A[j]);
      store(a_kept + (i * kBlock + j) * kWidth, a);
      Vec next = a * h[j] + input * B[i * states + j];
      if (kWindow) {
        const Vec e = exp2_of_product(load(chunk.sums + i * kWidth), A[j]);
        store(e_kept + (i * kBlock + j) * kWidth, e);
        next -= e * (load(chunk.u + i * kWidth) * B_old[i * states + j]);
      }
      h[j] = next;
      store(h_kept + ((i + 1) * kBlock + j) * kWidth, next);
    }
  }
  for (int64_t i = size - 1; i >= 0; --i) {
    const Vec step = load(dt + i * kWidth), input = load(u + i * kWidth), out = load(dy + i * kWidth);
    Vec du = load(d.du + i * kWidth), ddt = load(d.ddt + i * kWidth);
    Vec to_B[kBlock], to_C[kBlock], to_B_old[kBlock];
    Vec du_old = {}, dsums = {};
    for (int j = 0; j < kBlock; ++j) {
      const Vec grad = g[j] + out * C[i * states + j];
      to_C[j] = out * load(h_kept + ((i + 1) * kBlock + j) * kWidth);
      to_B[j] = grad * input;
      du += grad * B[i * states + j];
      if (kWindow) {
        const Vec left = grad * load(e_kept + (i * kBlock + j) * kWidth), old = load(chunk.u + i * kWidth);
        to_B_old[j] = left * old;
        du_old += left * B_old[i * states + j];
        const Vec exponent = to_B_old[j] * B_old[i * states + j];
        dA[j] -= exponent * load(chunk.sums + i * kWidth);
        dsums += exponent * A[j];
      }
      g[j] = grad * load(a_kept + (i * kBlock + j) * kWidth);
      const Vec exponent = g[j] * load(h_kept + (i * kBlock + j) * kWidth);
      dA[j] += exponent * step;
      ddt += exponent * A[j];
    }
    store(d.du + i * kWidth, du);
    store(d.ddt + i * kWidth, ddt);
    float* dB = d.dB + i * states / kBlock * kWidth;
    float* dC = d.dC + i * states / kBlock * kWidth;
    store(dB, load(dB) + gather4(to_B[0], to_B[1], to_B[2], to_B[3]));
    store(dC, load(dC) + gather4(to_C[0], to_C[1], to_C[2], to_C[3]));
    if (kWindow) {
      float* dB_old = d.dB_old + i * states / kBlock * kWidth;
      store(dB_old, load(dB_old) + gather4(to_B_old[0], to_B_old[1], to_B_old[2], to_B_old[3]));
      store(d.du_old + i * kWidth, load(d.du_old + i * kWidth) + du_old);
      store(d.dsums + i * kWidth, load(d.dsums + i * kWidth) + dsums);
    }
  }
}

// Adds (subtracts) the sums over lanes to the gradient of B or C, from token t of a row on.
INLINE void spill_states(const ScanArguments& a, const float* sums, float sign, int64_t row, int64_t t, int64_t count,
                         float* out) {
  const int64_t blocks = padded_states(a.state) / kBlock;
  for (int64_t i = t < 0 ? -t : 0; i < count; ++i) {
    float* token = out + (row * a.length + t + i) * a.state;
    for (int64_t n = 0; n < a.state; n += kBlock) {
      float lanes[kBlock];
      sum_groups(load(sums + (i * blocks + n / kBlock) * kWidth), lanes);
      for (int64_t j = 0; j < kBlock && n + j < a.state; ++j) token[n + j] += sign * lanes[j];
    }
  }
}

// kMode: 0, no window; 1, any window; else a window of kMode tokens.
template <int kMode>
void backward_rows(const ScanBackward& b, int64_t group, float* memory) {
  const ScanArguments& a = b.in;
  constexpr bool kWindow = kMode == 1, kDirect = kMode > 1;
  constexpr int kCarried = kDirect ? kMode - 1 : 1;
  const int64_t states = padded_states(a.state), width = padded(a.channels), size = chunk_size(a.length);
  const int64_t before = kDirect ? kMode - 1 : 0;  // tokens before a chunk that its states depend on
  const int64_t blocks = states / kBlock, w = a.window;
  Scratch scratch{memory};
  const float* A = a.decays;
  float* carry = scratch.take(kCarried * states * width);
  float* B = scratch.take((size + before) * states);
  float* C = scratch.take(size * states);
  float* a_kept = scratch.take((kDirect ? (size + 1) * kMode : size) * kBlock * kWidth);
  float* h_kept = kDirect ? nullptr : scratch.take((size + 1) * kBlock * kWidth);
  float* dy = scratch.take(size * kWidth);
  Gradients d{};
  d.du = scratch.take(size * kWidth);
  d.ddt = scratch.take(size * kWidth);
  d.dB = scratch.take(size * blocks * kWidth);
  d.dC = scratch.take(size * blocks * kWidth);
  Chunk chunk;
  chunk.take(scratch, size, w);
  float *B_old = nullptr, *e_kept = nullptr, *later_du = nullptr, *later_dsums = nullptr;
  if (kWindow) {
    B_old = scratch.take(size * states);
    e_kept = scratch.take(size * kBlock * kWidth);
    d.dB_old = scratch.take(size * blocks * kWidth);
    d.du_old = scratch.take(size * kWidth);
    d.dsums = scratch.take(size * kWidth);
    later_du = scratch.take(a.length * width);  // what later tokens send back over the window's end
    later_dsums = scratch.take(a.length * width);
  }
  float* dA_sum = b.dA + group * states * width;
  float* dD_sum = b.dD + group * width;

  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row) {
    std::memset(carry, 0, static_cast<size_t>(kCarried * states * width) * sizeof(float));
    std::memset(b.dB + row * a.length * a.state, 0, static_cast<size_t>(a.length * a.state) * sizeof(float));
    std::memset(b.dC + row * a.length * a.state, 0, static_cast<size_t>(a.length * a.state) * sizeof(float));
    if (kWindow) std::memset(later_du, 0, static_cast<size_t>(a.length * width) * sizeof(float));

    for (int64_t number = chunks(a.length) - 1; number >= 0; --number) {
      const int64_t first = number * size;
      if (first >= a.length) continue;
      const int64_t count = a.length - first < size ? a.length - first : size;
      const float* saved = b.saved + (row * (chunks(a.length) - 1) + number - 1) * states * width;
      pack_states(a.B, a, row, first - before, count + before, B);
      pack_states(a.C, a, row, first, count, C);
      std::memset(d.dB, 0, static_cast<size_t>(count * blocks * kWidth) * sizeof(float));
      std::memset(d.dC, 0, static_cast<size_t>(count * blocks * kWidth) * sizeof(float));
      if (kWindow) {
        pack_states(a.B, a, row, first - w, count, B_old);
        std::memset(d.dB_old, 0, static_cast<size_t>(count * blocks * kWidth) * sizeof(float));
      }

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
          store(d.du + i * kWidth, Vec{});
          store(d.ddt + i * kWidth, Vec{});
          if (kWindow) {
            store(d.du_old + i * kWidth, Vec{});
            store(d.dsums + i * kWidth, Vec{});
          }
        }
        store(dD_sum + c, load(dD_sum + c) + dD);

        for (int64_t n = 0; n < states; n += kBlock) {
          Vec decay[kBlock], h[kBlock], g[kCarried * kBlock], dA[kBlock];
          for (int j = 0; j < kBlock; ++j) {
            const int64_t place = (n + j) * width + c;
            decay[j] = load(A + place);
            h[j] = !kDirect && number > 0 ? load(saved + place) : Vec{};
            for (int k = 0; k < kCarried; ++k) g[k * kBlock + j] = load(carry + k * states * width + place);
            dA[j] = load(dA_sum + place);
          }
          Gradients part = d;
          part.dB += n / kBlock * kWidth;
          part.dC += n / kBlock * kWidth;
          if (kWindow) part.dB_old += n / kBlock * kWidth;
          if constexpr (kDirect) {
            retreat_window<kMode>(count, states, chunk.dt_now(w), chunk.u_now(w), dy, B + before * states + n, C + n,
                                  decay, a_kept, g, dA, part.du, part.ddt, part.dB, part.dC);
          } else {
            retreat<kWindow>(count, states, chunk, w, dy, B + n, C + n, B_old + n, decay, h, a_kept, h_kept, e_kept, g,
                             dA, part);
          }
          for (int j = 0; j < kBlock; ++j) {
            const int64_t place = (n + j) * width + c;
            for (int k = 0; k < kCarried; ++k) store(carry + k * states * width + place, g[k * kBlock + j]);
            store(dA_sum + place, dA[j]);
          }
        }

        for (int64_t i = count - 1; i >= 0; --i) {
          const int64_t t = first + i, place = (row * a.length + t) * a.channels + c;
          Vec du = load(d.du + i * kWidth), ddt = load(d.ddt + i * kWidth) * kLn2;
          if (kWindow) {
            // Tokens come in falling order, so what later ones send back over the window's end is here already.
            if (t >= w) {
              float* old = later_du + (t - w) * width + c;
              store(old, load(old) + load(d.du_old + i * kWidth));
            }
            store(later_dsums + t * width + c, load(d.dsums + i * kWidth) * kLn2);
            du -= load(later_du + t * width + c);
            for (int64_t k = 0; k < w && t + k < a.length; ++k) ddt -= load(later_dsums + (t + k) * width + c);
          }
          const Vec step = load(chunk.dt_now(w) + i * kWidth);
          ddt += du * load_some(a.x.at(row, t) + c, lanes);
          store_some(b.dx + place, du * step + D * load(dy + i * kWidth), lanes);
          store_some(b.ddt + place, ddt * load(chunk.slope_now(w) + i * kWidth), lanes);
        }
      }
      spill_states(a, d.dB, 1.0f, row, first, count, b.dB);
      spill_states(a, d.dC, 1.0f, row, first, count, b.dC);
      if (kWindow) spill_states(a, d.dB_old, -1.0f, row, first - w, count, b.dB);
    }
  }
}

void scan_backward(const ScanBackward& b, int64_t group, float* scratch) {
  switch (b.in.window) {
    case 0: return backward_rows<0>(b, group, scratch);
    case 2: return backward_rows<2>(b, group, scratch);
    case 3: return backward_rows<3>(b, group, scratch);
    case 4: return backward_rows<4>(b, group, scratch);
    case 5: return backward_rows<5>(b, group, scratch);
    case kLongestDirect: return backward_rows<kLongestDirect>(b, group, scratch);
    default: return backward_rows<1>(b, group, scratch);
  }
}

}  // namespace
