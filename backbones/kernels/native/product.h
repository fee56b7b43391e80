// What acts on columns: norms, products with weights, activations, and the ways between columns and tables.
#pragma once

#include "program.h"
#include "vector.h"

namespace {

constexpr int kVecs = kPanel / kWidth;  // vectors of a panel
constexpr int64_t kTogether = 8;  // panels that share a pass over the weights: they stay in the second-level cache

INLINE Vec root(Vec v) {
  for (int i = 0; i < kWidth; ++i) v[i] = __builtin_sqrtf(v[i]);
  return v;
}

// erf by Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most.
INLINE Vec erf(Vec v) {
  const Vec size = v < 0.0f ? -v : v, t = 1.0f / (1.0f + 0.3275911f * size);
  Vec p = splat(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Vec e = 1.0f - p * t * exp(-size * size);
  return v < 0.0f ? -e : e;
}

template <int64_t kKind>
INLINE Vec activated(Vec v) {
  if (kKind == kRelu) return vmax(v, Vec{});
  if (kKind == kGelu) return 0.5f * v * (1.0f + erf(v * 0.70710678118654752f));
  if (kKind == kGeluTanh) return v * sigmoid(1.5957691216057308f * (v + 0.044715f * v * v * v));
  return v * sigmoid(v);
}

template <int64_t kKind>
void activate(float* numbers, int64_t count) {
  for (int64_t i = 0; i < count; i += kWidth) store(numbers + i, activated<kKind>(load(numbers + i)));
}

void activate(int64_t kind, float* numbers, int64_t count) {
  switch (kind) {
    case kRelu: return activate<kRelu>(numbers, count);
    case kGelu: return activate<kGelu>(numbers, count);
    case kGeluTanh: return activate<kGeluTanh>(numbers, count);
    case kSilu: return activate<kSilu>(numbers, count);
    default: return;
  }
}

// kRows outputs of the first kUsed vectors of a panel. Each is a sum in the order of the weights, whatever the batch.
template <int kRows, int kUsed>
INLINE void tile(const float* in, const float* weight, const float* bias, int64_t width, int64_t combine, float* out) {
  Vec sum[kRows][kUsed];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kUsed; ++v) sum[r][v] = Vec{};
  for (int64_t k = 0; k < width; ++k) {
    Vec x[kUsed];
    for (int v = 0; v < kUsed; ++v) x[v] = load(in + k * kPanel + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const float w = weight[r * width + k];
      for (int v = 0; v < kUsed; ++v) sum[r][v] += w * x[v];
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kUsed; ++v) {
      float* place = out + r * kPanel + v * kWidth;
      const Vec value = bias ? sum[r][v] + bias[r] : sum[r][v];
      store(place, combine == kSet ? value : combine == kAdd ? load(place) + value : load(place) * value);
    }
}

template <int kRows>
INLINE void tiles(const Program& p, const Operation& o, int64_t tokens, int64_t first, int64_t last, int64_t* n) {
  for (; *n + kRows <= o.size; *n += kRows) {
    const float *weight = o.weight + *n * o.width, *bias = o.bias ? o.bias + *n : nullptr;
    for (int64_t panel = first; panel < last; ++panel) {
      const float* in = p.column(panel, o.in);
      float* out = p.column(panel, o.out + *n);
      if (kVecs > 1 && tokens - panel * kPanel <= kWidth)
        tile<kRows, 1>(in, weight, bias, o.width, o.combine, out);
      else
        tile<kRows, kVecs>(in, weight, bias, o.width, o.combine, out);
      if (o.mode != kNone) activate(o.mode, out, kRows * kPanel);
    }
  }
}

// out = activation(weight in + bias), with weight (size, width).
void product(const Program& p, const Operation& o, int64_t tokens) {
  const int64_t panels = p.panels(tokens);
  for (int64_t first = 0; first < panels; first += kTogether) {
    const int64_t last = first + kTogether < panels ? first + kTogether : panels;
    int64_t n = 0;
    tiles<kWidth == 16 ? 12 : kWidth == 8 ? 6 : 3>(p, o, tokens, first, last, &n);
    tiles<4>(p, o, tokens, first, last, &n);
    tiles<2>(p, o, tokens, first, last, &n);
    tiles<1>(p, o, tokens, first, last, &n);
  }
}

// A layer norm, or without the mean (`mode` 0) an RMSNorm.
void norm(const Program& p, const Operation& o, int64_t tokens) {
  for (int64_t panel = 0; panel < p.panels(tokens); ++panel)
    for (int v = 0; v < kPanel; v += kWidth) {
      const float* in = p.column(panel, o.in) + v;
      float* out = p.column(panel, o.out) + v;
      Vec mean = {}, square = {};
      for (int64_t i = 0; o.mode && i < o.width; ++i) mean += load(in + i * kPanel);
      mean /= float(o.width);
      for (int64_t i = 0; i < o.width; ++i) {
        const Vec d = load(in + i * kPanel) - mean;
        square += d * d;
      }
      const Vec scale = 1.0f / root(square / float(o.width) + 1e-5f);
      for (int64_t i = 0; i < o.width; ++i) {
        const Vec y = (load(in + i * kPanel) - mean) * scale * o.weight[i];
        store(out + i * kPanel, o.bias ? y + o.bias[i] : y);
      }
    }
}

// Columns to tokens side by side: `numbers` of them for each of `count` tokens, which lie `width` apart.
INLINE void out_of_columns(const Program& p, int64_t feature, int64_t token, int64_t numbers, float* out) {
  const float* in = p.column(token / kPanel, feature) + token % kPanel;
  for (int64_t i = 0; i < numbers; ++i) out[i] = in[i * kPanel];
}

INLINE void into_columns(const Program& p, int64_t feature, int64_t token, int64_t numbers, const float* in) {
  float* out = p.column(token / kPanel, feature) + token % kPanel;
  for (int64_t i = 0; i < numbers; ++i) out[i * kPanel] = in[i];
}

INLINE float* table(const Program& p, int64_t start, int64_t before, int64_t width, int64_t row) {
  return p.tables + start + row * (before + p.count) * width;
}

void to_table(const Program& p, const Operation& o) {
  for (int64_t b = 0; b < p.batch; ++b)
    for (int64_t t = 0; t < p.count; ++t)
      out_of_columns(p, o.in, b * p.count + t, o.width,
                     table(p, o.out, o.before, o.width, b) + (o.before + t) * o.width);
}

// With `mode`, the last token of each row only.
void to_columns(const Program& p, const Operation& o) {
  for (int64_t b = 0; b < p.batch; ++b) {
    const float* row = table(p, o.in, o.before, o.width, b) + o.before * o.width;
    if (o.mode)
      into_columns(p, o.out, b, o.width, row + (p.count - 1) * o.width);
    else
      for (int64_t t = 0; t < p.count; ++t) into_columns(p, o.out, b * p.count + t, o.width, row + t * o.width);
  }
}

// The last token of each row moves to the front. A row's place is never behind the token that it gets.
void keep_last(const Program& p, const Operation& o) {
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t token = b * p.count + p.count - 1;
    const float* in = p.column(token / kPanel, o.in) + token % kPanel;
    float* out = p.column(b / kPanel, o.in) + b % kPanel;
    for (int64_t i = 0; i < o.width; ++i) out[i * kPanel] = in[i * kPanel];
  }
}

}  // namespace
