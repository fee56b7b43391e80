// The operations that know of earlier tokens, on tables, and the run of a program.
#pragma once

#include "attend.h"
#include "conv.h"
#include "product.h"
#include "scan_forward.h"

namespace {

INLINE void copy(float* to, const float* from, int64_t count) {
  std::memmove(to, from, static_cast<size_t>(count) * sizeof(float));
}

// The table's earlier tokens come from the state, which gets the last ones. Rows have `before` tokens of `width`.
void remember(const Program& p, float* rows, const Operation& o, int64_t before, int64_t width, float* state) {
  for (int64_t b = 0; b < p.batch; ++b) {
    float *row = rows + b * (before + o.count) * width, *own = state + b * before * width;
    copy(row, own, before * width);
    copy(own, row + o.count * width, before * width);
  }
}

// The convolution by `size` taps with its activation; `state` (batch, before, width).
void convolve(const Program& p, const Operation& o) {
  const int64_t taps = o.size, length = o.before + o.count;
  float* weights = p.scratch;
  for (int64_t c = 0; c < o.width; ++c)
    for (int64_t k = 0; k < taps; ++k) weights[k * o.width + c] = o.weight[c * taps + k];
  float* in = p.tables + o.in;
  if (o.state) remember(p, in, o, o.before, o.width, o.state);
  const Rows x = o.x.data ? o.x : Rows{in, length * o.width, o.width};
  const ConvArguments a = {p.batch, length, o.width, taps, 1, x, o.weight, o.bias, weights};
  for (int64_t group = 0; group < groups(p.batch); ++group) conv_forward(a, p.tables + o.out, group);
}

// A = -exp(A_log) (channels, states) in units of log2(e), as the scan takes it.
float* decays(const Operation& o, float* out) {
  const int64_t width = padded(o.width), states = padded_states(o.size);
  clear(out, states * width);
  for (int64_t c = 0; c < o.width; ++c)
    for (int64_t n = 0; n < o.size; n += kWidth) {
      const Vec a = exp(load_some(o.weight + c * o.size + n, o.size - n)) * -kLog2E;
      for (int64_t i = 0; i < kWidth && n + i < o.size; ++i) out[(n + i) * width + c] = a[i];
    }
  return out + states * width;
}

// The selective scan, from `state` (batch, states, channels) on, or over windows of `mode` tokens, 0 for all. Tables:
// `in` of the convolution's outputs, after `before` tokens; `out` of the results; `other` of the time steps, and after
// them B and C side by side. `combine`: whether decays are negative.
void scan(const Program& p, const Operation& o) {
  const int64_t channels = o.width, states = o.size, count = o.count;
  const float *x = p.tables + o.in + o.before * channels, *dt = p.tables + o.other;
  const float* selected = dt + p.batch * count * channels;
  float* rest = decays(o, p.scratch);
  ScanForward f = {};
  f.in = {p.batch, count, channels, states, o.mode, 1, o.combine,
          {x, (o.before + count) * channels, channels}, {dt, count * channels, channels},
          {selected, count * 2 * states, 2 * states}, {selected + states, count * 2 * states, 2 * states}, o.gate,
          o.weight, o.bias, p.scratch};
  f.in.window = window_of(f.in);
  f.y = p.tables + o.out;
  f.carried = o.state;
  for (int64_t group = 0; group < groups(p.batch); ++group) scan_forward(f, group, rest);
}

// The same over windows, after earlier tokens. The states are the inputs of the last mode - 1 tokens: x, dt, B.
void scan_window(const Program& p, const Operation& o) {
  const int64_t channels = o.width, states = o.size, earlier = o.mode - 1, length = earlier + o.count;
  const int64_t wide = p.batch * length * channels, narrow = p.batch * length * states;
  Scratch parts{decays(o, p.scratch)};
  float *x = parts.take(wide), *dt = parts.take(wide), *y = parts.take(wide);
  float *B = parts.take(narrow), *C = parts.take(narrow);
  clear(C, narrow);
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t at = (b * length + earlier) * channels, own = b * o.count * channels;
    copy(x + at, p.tables + o.in + (b * (o.before + o.count) + o.before) * channels, o.count * channels);
    copy(dt + at, p.tables + o.other + own, o.count * channels);
    for (int64_t i = 0; i < o.count; ++i) {
      const float* selected = p.tables + o.other + p.batch * o.count * channels + (b * o.count + i) * 2 * states;
      copy(B + (b * length + earlier + i) * states, selected, states);
      copy(C + (b * length + earlier + i) * states, selected + states, states);
    }
  }
  remember(p, x, o, earlier, channels, o.state);
  remember(p, dt, o, earlier, channels, o.state_2);
  remember(p, B, o, earlier, states, o.state_3);
  ScanForward f = {};
  f.in = {p.batch, length, channels, states, o.mode, 1, 0,
          {x, length * channels, channels}, {dt, length * channels, channels},
          {B, length * states, states}, {C, length * states, states}, {}, o.weight, o.bias, p.scratch};
  f.in.window = window_of(f.in);
  f.y = y;
  for (int64_t group = 0; group < groups(p.batch); ++group) scan_forward(f, group, parts.next);
  for (int64_t b = 0; b < p.batch; ++b)
    copy(p.tables + o.out + b * o.count * channels, y + (b * length + earlier) * channels, o.count * channels);
}

void run_program(const Program& p) {
  const int64_t tokens = p.batch * p.count;
  if (tokens == 0) return;
  clear(p.column(p.panels(tokens) - 1, 0), p.width * kPanel);  // tokens that fill the last panel
  turn_all<false>(p, 0, p.width, tokens, [&](int64_t token) {
    return const_cast<float*>(p.x.at(token / p.count, token % p.count));  // it is only read
  });
  for (const Operation* o = p.operations; o < p.operations + p.length; ++o) switch (o->kind) {
      case kNorm: norm(p, *o); break;
      case kProduct: product(p, *o); break;
      case kToTable: to_table(p, *o); break;
      case kToColumns: to_columns(p, *o); break;
      case kTail: tail(p, *o); break;
      case kConvolve: convolve(p, *o); break;
      case kScan: scan(p, *o); break;
      case kScanWindow: scan_window(p, *o); break;
      case kAttend: attend(p, *o); break;
    }
  turn_all<true>(p, 0, p.width, p.batch, [&](int64_t token) { return p.y + token * p.width; });
}

}  // namespace
