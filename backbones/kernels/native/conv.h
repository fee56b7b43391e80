// The causal depthwise convolution, s_t = bias + sum_k weight_k x_{t-K+1+k} with x_t = 0 before the first token, and
// with `silu` y_t = s_t sigmoid(s_t).
#pragma once

#include "scan_common.h"

namespace {

INLINE Vec convolve(const ConvArguments& a, int64_t row, int64_t t, int64_t c) {
  const int64_t lanes = a.channels - c;
  Vec total = load_some(a.bias + c, lanes);
  for (int64_t k = t < a.taps - 1 ? a.taps - 1 - t : 0; k < a.taps; ++k)
    total += load_some(a.taps_first + k * a.channels + c, lanes) * load_some(a.x.at(row, t - a.taps + 1 + k) + c, lanes);
  return total;
}

void conv_forward(const ConvArguments& a, float* y, int64_t group) {
  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row)
    for (int64_t t = 0; t < a.length; ++t)
      for (int64_t c = 0; c < a.channels; c += kWidth) {
        const Vec s = convolve(a, row, t, c);
        store_some(y + (row * a.length + t) * a.channels + c, a.silu ? s * sigmoid(s) : s, a.channels - c);
      }
}

// The gradient of s is needed by the K tokens before it: those of the last K tokens are kept in a ring.
void conv_backward(const ConvBackward& b, int64_t group, float* memory) {
  const ConvArguments& a = b.in;
  const int64_t width = padded(a.channels);
  float* ring = memory;  // (taps, width)
  float* dweight = b.dweight + group * a.taps * a.channels;
  float* dbias = b.dbias + group * a.channels;
  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row)
    for (int64_t t = a.length - 1; t >= 0; --t)
      for (int64_t c = 0; c < a.channels; c += kWidth) {
        const int64_t lanes = a.channels - c;
        Vec ds = load_some(b.dy.at(row, t) + c, lanes);
        if (a.silu) {
          const Vec s = convolve(a, row, t, c);
          ds *= silu_slope(s, sigmoid(s));
        }
        store(ring + t % a.taps * width + c, ds);
        store_some(dbias + c, load_some(dbias + c, lanes) + ds, lanes);
        Vec dx = {};
        for (int64_t k = 0; k < a.taps; ++k) {
          float* dw = dweight + k * a.channels + c;
          const int64_t before = t - a.taps + 1 + k, after = t + a.taps - 1 - k;
          if (before >= 0) store_some(dw, load_some(dw, lanes) + ds * load_some(a.x.at(row, before) + c, lanes), lanes);
          if (after < a.length)
            dx += load_some(a.taps_first + k * a.channels + c, lanes) * load(ring + after % a.taps * width + c);
        }
        store_some(b.dx + (row * a.length + t) * a.channels + c, dx, lanes);
      }
}

}  // namespace
