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
void remember(const Program& p, float* rows, int64_t before, int64_t width, float* state) {
  for (int64_t b = 0; b < p.batch; ++b) {
    float *row = rows + b * (before + p.count) * width, *own = state + b * before * width;
    copy(row, own, before * width);
    copy(own, row + p.count * width, before * width);
  }
}

// The convolution with its activation; `state` (batch, before, width).
void convolve(const Program& p, const Operation& o) {
  const int64_t taps = o.before + 1, length = o.before + p.count;
  float* weights = p.scratch;
  for (int64_t c = 0; c < o.width; ++c)
    for (int64_t k = 0; k < taps; ++k) weights[k * o.width + c] = o.weight[c * taps + k];
  float* in = p.tables + o.in;
  remember(p, in, o.before, o.width, o.state);
  const ConvArguments a = {p.batch, length, o.width, taps, 1, {in, length * o.width, o.width}, o.weight, o.bias, weights};
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

// Tables: `in` of the convolution's outputs, after `before` tokens; `out` of the results, `other` of the time steps, and
// after them B and C side by side; then the gates.
struct ScanTables {
  float *dt, *selected, *gate;
  ScanTables(const Program& p, const Operation& o) {
    dt = p.tables + o.other;
    selected = dt + p.batch * p.count * o.width;
    gate = selected + p.batch * p.count * 2 * o.size;
  }
};

// The selective scan from `state` (batch, states, channels) on.
void scan(const Program& p, const Operation& o) {
  const int64_t channels = o.width, row = p.count;
  const ScanTables t(p, o);
  float* rest = decays(o, p.scratch);
  const float* x = p.tables + o.in + o.before * channels;
  ScanForward f = {};
  f.in = {p.batch, p.count, channels, o.size, 0, 1, o.combine,
          {x, (o.before + row) * channels, channels}, {t.dt, row * channels, channels},
          {t.selected, row * 2 * o.size, 2 * o.size}, {t.selected + o.size, row * 2 * o.size, 2 * o.size},
          {t.gate, row * channels, channels}, o.weight, o.bias, p.scratch};
  f.y = p.tables + o.out;
  f.carried = o.state;
  for (int64_t group = 0; group < groups(p.batch); ++group) scan_forward(f, group, rest);
}

// The scan whose memory ends after `mode` tokens. The states are the inputs of the last mode - 1: x, dt, B.
void scan_window(const Program& p, const Operation& o) {
  const int64_t channels = o.width, states = o.size, earlier = o.mode - 1, length = earlier + p.count;
  const int64_t wide = p.batch * length * channels, narrow = p.batch * length * states;
  const ScanTables t(p, o);
  Scratch parts{decays(o, p.scratch)};
  float *x = parts.take(wide), *dt = parts.take(wide), *gate = parts.take(wide), *y = parts.take(wide);
  float *B = parts.take(narrow), *C = parts.take(narrow);
  clear(gate, wide), clear(C, narrow);
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t at = (b * length + earlier) * channels, own = b * p.count * channels;
    copy(x + at, p.tables + o.in + (b * (o.before + p.count) + o.before) * channels, p.count * channels);
    copy(dt + at, t.dt + own, p.count * channels);
    copy(gate + at, t.gate + own, p.count * channels);
    for (int64_t i = 0; i < p.count; ++i) {
      const float* selected = t.selected + (b * p.count + i) * 2 * states;
      copy(B + (b * length + earlier + i) * states, selected, states);
      copy(C + (b * length + earlier + i) * states, selected + states, states);
    }
  }
  remember(p, x, earlier, channels, o.state);
  remember(p, dt, earlier, channels, o.state_2);
  remember(p, B, earlier, states, o.state_3);
  ScanForward f = {};
  f.in = {p.batch, length, channels, states, o.mode, 1, 0,
          {x, length * channels, channels}, {dt, length * channels, channels},
          {B, length * states, states}, {C, length * states, states}, {gate, length * channels, channels},
          o.weight, o.bias, p.scratch};
  f.in.window = window_of(f.in);
  f.y = y;
  for (int64_t group = 0; group < groups(p.batch); ++group) scan_forward(f, group, parts.next);
  for (int64_t b = 0; b < p.batch; ++b)
    copy(p.tables + o.out + b * p.count * channels, y + (b * length + earlier) * channels, p.count * channels);
}

void run_program(const Program& p) {
  int64_t tokens = p.batch * p.count;
  clear(p.column(p.panels(tokens) - 1, 0), p.width * kPanel);  // tokens that fill the last panel
  for (int64_t i = 0; i < tokens; ++i) into_columns(p, 0, i, p.width, p.x + i * p.width);
  for (const Operation* o = p.operations; o < p.operations + p.length; ++o) switch (o->kind) {
      case kNorm: norm(p, *o, tokens); break;
      case kProduct: product(p, *o, tokens); break;
      case kToTable: to_table(p, *o); break;
      case kToColumns: to_columns(p, *o); break;
      case kLast: keep_last(p, *o); tokens = p.batch; break;
      case kConvolve: convolve(p, *o); break;
      case kScan: scan(p, *o); break;
      case kScanWindow: scan_window(p, *o); break;
      case kAttend: attend(p, *o); break;
    }
  for (int64_t b = 0; b < p.batch; ++b) out_of_columns(p, 0, b, p.width, p.y + b * p.width);
}

}  // namespace
