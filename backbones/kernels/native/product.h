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

INLINE Vec combined(int64_t combine, Vec before, Vec value) {
  return combine == kAdd ? before + value : before * value;
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
      store(place, combine == kSet ? value : combined(combine, load(place), value));
    }
}

template <int kRows>
INLINE void tiles(const Program& p, const Operation& o, int64_t first, int64_t last, int64_t* n) {
  for (; *n + kRows <= o.size; *n += kRows) {
    const float *weight = o.weight + *n * o.width, *bias = o.bias ? o.bias + *n : nullptr;
    for (int64_t panel = first; panel < last; ++panel) {
      const float* in = p.column(panel, o.in);
      float own[kRows * kPanel], *place = p.column(panel, o.out + *n);
      const bool apart = o.mode != kNone && o.combine != kSet;  // the activation comes before the sum or product
      const int64_t combine = apart ? int64_t{kSet} : o.combine;
      float* out = apart ? own : place;
      if (kVecs > 1 && p.batch * o.count - panel * kPanel <= kWidth)
        tile<kRows, 1>(in, weight, bias, o.width, combine, out);
      else
        tile<kRows, kVecs>(in, weight, bias, o.width, combine, out);
      if (o.mode != kNone) activate(o.mode, out, kRows * kPanel);
      for (int64_t i = 0; apart && i < kRows * kPanel; i += kWidth)
        store(place + i, combined(o.combine, load(place + i), load(own + i)));
    }
  }
}

// out (set, +, or *)= activation(weight in + bias), with weight (size, width).
void product(const Program& p, const Operation& o) {
  const int64_t panels = p.panels(p.batch * o.count);
  for (int64_t first = 0; first < panels; first += kTogether) {
    const int64_t last = first + kTogether < panels ? first + kTogether : panels;
    int64_t n = 0;
    tiles<kWidth == 16 ? 12 : kWidth == 8 ? 6 : 3>(p, o, first, last, &n);
    tiles<4>(p, o, first, last, &n);
    tiles<2>(p, o, first, last, &n);
    tiles<1>(p, o, first, last, &n);
  }
}

// A layer norm, or without the mean (`mode` 0) an RMSNorm.
void norm(const Program& p, const Operation& o) {
  for (int64_t panel = 0; panel < p.panels(p.batch * o.count); ++panel)
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

typedef float Four __attribute__((vector_size(16)));

INLINE Four load_four(const float* p) {
  Four v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

#if defined(__clang__)
#define SHUFFLE4(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t FourInts __attribute__((vector_size(16)));
#define SHUFFLE4(a, b, ...) __builtin_shuffle(a, b, (FourInts){__VA_ARGS__})
#endif

// The transpose of the 4 x 4 numbers at `in`, whose rows lie `apart`, to the four places `out`.
INLINE void turn(const float* const in[4], float* const out[4]) {
  const Four a = load_four(in[0]), b = load_four(in[1]), c = load_four(in[2]), d = load_four(in[3]);
  const Four ab = SHUFFLE4(a, b, 0, 4, 1, 5), cd = SHUFFLE4(c, d, 0, 4, 1, 5);
  const Four ab2 = SHUFFLE4(a, b, 2, 6, 3, 7), cd2 = SHUFFLE4(c, d, 2, 6, 3, 7);
  const Four rows[4] = {SHUFFLE4(ab, cd, 0, 1, 4, 5), SHUFFLE4(ab, cd, 2, 3, 6, 7), SHUFFLE4(ab2, cd2, 0, 1, 4, 5),
                        SHUFFLE4(ab2, cd2, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(out[i], &rows[i], sizeof(Four));
}

// Between columns and tokens whose numbers lie side by side. `place(token)` is where a token begins.
template <bool kOut, typename Place>
INLINE void turn_all(const Program& p, int64_t feature, int64_t width, int64_t tokens, Place place) {
  for (int64_t first = 0; first < tokens; first += 4) {
    float* column = p.column(first / kPanel, feature) + first % kPanel;
    const int64_t count = tokens - first < 4 ? tokens - first : 4;
    float* token[4];
    for (int64_t t = 0; t < count; ++t) token[t] = place(first + t);
    int64_t i = 0;
    for (; count == 4 && i + 4 <= width; i += 4) {
      float *columns[4], *tokens_at[4];
      for (int j = 0; j < 4; ++j) columns[j] = column + (i + j) * kPanel, tokens_at[j] = token[j] + i;
      kOut ? turn(columns, tokens_at) : turn(tokens_at, columns);
    }
    for (; i < width; ++i)
      for (int64_t t = 0; t < count; ++t)
        kOut ? void(token[t][i] = column[i * kPanel + t]) : void(column[i * kPanel + t] = token[t][i]);
  }
}

// Where the tokens of a table are, without those before.
struct Places {
  float* start;
  int64_t width, count, before;
  float* operator()(int64_t token) const {
    return start + (token / count * (before + count) + before + token % count) * width;
  }
};

void to_table(const Program& p, const Operation& o) {
  turn_all<true>(p, o.in, o.width, p.batch * o.count, Places{p.tables + o.out, o.width, o.count, o.before});
}

void to_columns(const Program& p, const Operation& o) {
  turn_all<false>(p, o.out, o.width, p.batch * o.count, Places{p.tables + o.in, o.width, o.count, o.before});
}

// The last `count` of each row's before + count tokens. In place, none is overwritten before it is moved.
void tail(const Program& p, const Operation& o) {
  for (int64_t token = 0; token < p.batch * o.count; ++token) {
    const int64_t source = token / o.count * (o.before + o.count) + o.before + token % o.count;
    const float* in = p.column(source / kPanel, o.in) + source % kPanel;
    float* out = p.column(token / kPanel, o.out) + token % kPanel;
    for (int64_t i = 0; i < o.width; ++i) out[i * kPanel] = in[i * kPanel];
  }
}

}  // namespace
