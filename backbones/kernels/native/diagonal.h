// The diagonal recurrence h_t = a_t h_{t-1} + b_t, for each channel alone. A complex channel is two numbers, its real and
// its imaginary part. The loops over channels are plain, so the compiler turns them into vectors.
#pragma once

#include "scan_common.h"

namespace {

// out = first * before + second, or with kConjugate conj(first) * before + second, over the numbers of one token.
template <bool kComplex, bool kConjugate>
INLINE void advance(const float* first, const float* before, const float* second, float* __restrict out,
                    int64_t width) {
  if (!kComplex) {
    for (int64_t c = 0; c < width; ++c) out[c] = first[c] * before[c] + second[c];
    return;
  }
  const float sign = kConjugate ? -1.0f : 1.0f;
  for (int64_t c = 0; c < width; c += 2) {
    const float re = first[c], im = sign * first[c + 1];
    out[c] = re * before[c] - im * before[c + 1] + second[c];
    out[c + 1] = re * before[c + 1] + im * before[c] + second[c + 1];
  }
}

// What conj(before) * g adds to the gradient of a.
template <bool kComplex>
INLINE void add_to_decay(const float* before, const float* g, float* __restrict da, int64_t width) {
  if (!kComplex) {
    for (int64_t c = 0; c < width; ++c) da[c] += before[c] * g[c];
    return;
  }
  for (int64_t c = 0; c < width; c += 2) {
    const float re = before[c], im = -before[c + 1];
    da[c] += re * g[c] - im * g[c + 1];
    da[c + 1] += re * g[c + 1] + im * g[c];
  }
}

template <bool kComplex>
void diagonal_rows(const DiagonalForward& f, int64_t group, const float* zeros) {
  const DiagonalArguments& a = f.in;
  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row) {
    const float* before = a.initial ? a.initial + row * a.width : zeros;
    for (int64_t t = 0; t < a.length; ++t) {
      float* h = f.h + (row * a.length + t) * a.width;
      advance<kComplex, false>(a.a.at(row, t), before, f.b.at(row, t), h, a.width);
      before = h;
    }
  }
}

// g_t = dh_t + conj(a_{t+1}) g_{t+1} is the gradient of h_t, and of b_t. That of a_t is g_t conj(h_{t-1}).
template <bool kComplex>
void diagonal_rows_back(const DiagonalBackward& b, int64_t group, const float* zeros) {
  const DiagonalArguments& a = b.in;
  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row) {
    const float* later = zeros;
    for (int64_t t = a.length - 1; t >= 0; --t) {
      const int64_t token = row * a.length + t;
      float* g = b.db + token * a.width;
      advance<kComplex, true>(a.a.at(row, t + 1 < a.length ? t + 1 : t), later, b.dh.at(row, t), g, a.width);
      const float* first = a.initial ? a.initial + row * a.width : zeros;
      float* da = b.da + (a.constant ? group : token) * a.width;  // filled with zeros by the caller
      add_to_decay<kComplex>(t > 0 ? b.h + (token - 1) * a.width : first, g, da, a.width);
      later = g;
    }
    if (b.dinitial && a.length > 0)
      advance<kComplex, true>(a.a.at(row, 0), later, zeros, b.dinitial + row * a.width, a.width);
  }
}

void diagonal_forward(const DiagonalForward& f, int64_t group, float* scratch) {
  clear(scratch, f.in.width);
  f.in.complex ? diagonal_rows<true>(f, group, scratch) : diagonal_rows<false>(f, group, scratch);
}

void diagonal_backward(const DiagonalBackward& b, int64_t group, float* scratch) {
  clear(scratch, b.in.width);
  b.in.complex ? diagonal_rows_back<true>(b, group, scratch) : diagonal_rows_back<false>(b, group, scratch);
}

}  // namespace
