// The causal depthwise convolution, s_t = bias + sum_k weight_k x_{t-K+1+k} with x_t = 0 before the first token, and
// with `silu` y_t = s_t sigmoid(s_t).
#pragma once

#include "scan_common.h"

namespace {

constexpr int kMostTaps = 4;  // most taps that are unrolled, as many as Mamba's convolution has

// One vector of channels: taps and bias, which every token needs. kTaps = 0 means any number of taps.
template <int kTaps>
struct Filter {
  const ConvArguments& a;
  int64_t channel, lanes, taps;
  Vec bias, weight[kTaps ? kTaps : 1];

  INLINE_MEMBER Filter(const ConvArguments& a, int64_t channel)
      : a(a), channel(channel), lanes(a.channels - channel), taps(kTaps ? kTaps : a.taps) {
    bias = load_some(a.bias + channel, lanes);
    for (int k = 0; k < kTaps; ++k) weight[k] = tap(k);
  }
  INLINE_MEMBER Vec tap(int64_t k) const { return load_some(a.taps_first + k * a.channels + channel, lanes); }
  INLINE_MEMBER Vec of(int64_t k) const { return kTaps ? weight[k] : tap(k); }
  INLINE_MEMBER Vec input(int64_t row, int64_t t) const {
    return t < 0 ? Vec{} : load_some(a.x.at(row, t) + channel, lanes);
  }
  INLINE_MEMBER Vec apply(int64_t row, int64_t t) const {
    Vec total = bias;
    for (int64_t k = 0; k < taps; ++k) total += of(k) * input(row, t - taps + 1 + k);
    return total;
  }
};

template <int kTaps>
void convolve_rows(const ConvArguments& a, float* y, int64_t group) {
  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row)
    for (int64_t c = 0; c < a.channels; c += kWidth) {
      const Filter<kTaps> filter(a, c);
      for (int64_t t = 0; t < a.length; ++t) {
        const Vec s = filter.apply(row, t);
        store_some(y + (row * a.length + t) * a.channels + c, a.silu ? s * sigmoid(s) : s, filter.lanes);
      }
    }
}

// Tokens come in falling order. A token's input affects the K tokens from it on. The ring `later` holds their gradients
// ds. If the number of taps is known, the sums over tokens stay in registers.
template <int kTaps>
void convolve_rows_back(const ConvBackward& b, int64_t group, float* memory) {
  const ConvArguments& a = b.in;
  float* dweight = b.dweight + group * a.taps * a.channels;
  float* dbias = b.dbias + group * a.channels;
  for (int64_t row = first_row(a.batch, group); row < first_row(a.batch, group + 1); ++row)
    for (int64_t c = 0; c < a.channels; c += kWidth) {
      const Filter<kTaps> filter(a, c);
      const int64_t lanes = filter.lanes, taps = filter.taps;
      Vec own_sums[kTaps ? kTaps : 1] = {}, own_later[kTaps ? kTaps : 1] = {}, total = {};
      Vec* sums = kTaps ? own_sums : reinterpret_cast<Vec*>(memory);
      Vec* later = kTaps ? own_later : sums + taps;
      for (int64_t k = 0; k < taps; ++k) sums[k] = later[k] = Vec{};
      for (int64_t t = a.length - 1; t >= 0; --t) {
        Vec ds = load_some(b.dy.at(row, t) + c, lanes);
        if (a.silu) {
          const Vec s = filter.apply(row, t);
          ds *= silu_slope(s, sigmoid(s));
        }
        total += ds;
        for (int64_t k = taps - 1; k > 0; --k) later[k] = later[k - 1];
        later[0] = ds;
        Vec dx = {};
        for (int64_t k = 0; k < taps; ++k) {
          sums[k] += ds * filter.input(row, t - taps + 1 + k);
          dx += filter.of(k) * later[taps - 1 - k];
        }
        store_some(b.dx + (row * a.length + t) * a.channels + c, dx, lanes);
      }
      store_some(dbias + c, load_some(dbias + c, lanes) + total, lanes);
      for (int64_t k = 0; k < taps; ++k) {
        float* sum = dweight + k * a.channels + c;
        store_some(sum, load_some(sum, lanes) + sums[k], lanes);
      }
    }
}

void conv_forward(const ConvArguments& a, float* y, int64_t group) {
  switch (a.taps) {
    case 2: return convolve_rows<2>(a, y, group);
    case 3: return convolve_rows<3>(a, y, group);
    case kMostTaps: return convolve_rows<kMostTaps>(a, y, group);
    default: return convolve_rows<0>(a, y, group);
  }
}

void conv_backward(const ConvBackward& b, int64_t group, float* scratch) {
  switch (b.in.taps) {
    case 2: return convolve_rows_back<2>(b, group, scratch);
    case 3: return convolve_rows_back<3>(b, group, scratch);
    case kMostTaps: return convolve_rows_back<kMostTaps>(b, group, scratch);
    default: return convolve_rows_back<0>(b, group, scratch);
  }
}

}  // namespace
