// The selective scan, the convolution and the diagonal recurrence by their definitions, in double precision: slow, short
// and plainly right.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "scan.h"

using Numbers = std::vector<double>;

struct NaiveScan {
  Numbers y, dx, ddt, dA, dB, dC, dD, dgate;
};

inline double logistic(double v) { return 1 / (1 + std::exp(-v)); }

// Values, and gradients of sum(dy * y). A window is taken literally: each token's window is scanned from zero.
inline NaiveScan naive_scan(const ScanArguments& a, const Rows& dy) {
  const int64_t wide = a.batch * a.length * a.channels, narrow = a.batch * a.length * a.state;
  NaiveScan r;
  for (Numbers* n : {&r.y, &r.dx, &r.ddt, &r.dgate}) n->assign(wide, 0);
  for (Numbers* n : {&r.dB, &r.dC}) n->assign(narrow, 0);
  r.dA.assign(a.channels * a.state, 0);
  r.dD.assign(a.channels, 0);
  Numbers step(a.length), slope(a.length), out(a.length), decay(a.length), h(a.length + 1);
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t c = 0; c < a.channels; ++c) {
      const auto place = [&](int64_t t) { return (b * a.length + t) * a.channels + c; };
      const auto x = [&](int64_t t) { return double(a.x.at(b, t)[c]); };
      for (int64_t t = 0; t < a.length; ++t) {
        const double raw = a.dt.at(b, t)[c], z = a.gate.data ? a.gate.at(b, t)[c] : 0;
        step[t] = !a.softplus ? raw : raw > 0 ? raw + std::log1p(std::exp(-raw)) : std::log1p(std::exp(raw));
        slope[t] = a.softplus ? logistic(raw) : 1;
        out[t] = dy.at(b, t)[c] * (a.gate.data ? z * logistic(z) : 1);
        r.y[place(t)] = double(a.D[c]) * x(t);
        r.dD[c] += out[t] * x(t);
        r.dx[place(t)] += out[t] * a.D[c];
      }
      // Scans tokens first .. last from zero, for the outputs of tokens `seen` .. last.
      const auto part = [&](int64_t first, int64_t seen, int64_t last, int64_t n) {
        const double A = a.A[c * a.state + n];
        h[first] = 0;
        for (int64_t t = first; t <= last; ++t) {
          decay[t] = a.negative ? 2 * std::exp(step[t] * A) - 1 : std::exp(step[t] * A);
          h[t + 1] = decay[t] * h[t] + step[t] * x(t) * a.B.at(b, t)[n];
          if (t >= seen) r.y[place(t)] += a.C.at(b, t)[n] * h[t + 1];
        }
        double g = 0;
        for (int64_t t = last; t >= first; --t) {
          const int64_t token = (b * a.length + t) * a.state + n;
          if (t >= seen) {
            g += a.C.at(b, t)[n] * out[t];
            r.dC[token] += out[t] * h[t + 1];
          }
          r.dB[token] += g * step[t] * x(t);
          r.dx[place(t)] += g * step[t] * a.B.at(b, t)[n];
          r.ddt[place(t)] += g * (x(t) * a.B.at(b, t)[n] + A * (decay[t] + a.negative) * h[t]);
          r.dA[c * a.state + n] += g * step[t] * (decay[t] + a.negative) * h[t];
          g *= decay[t];
        }
      };
      for (int64_t n = 0; n < a.state; ++n) {
        if (a.window == 0 && a.length > 0) part(0, 0, a.length - 1, n);
        for (int64_t t = 0; a.window > 0 && t < a.length; ++t) part(std::max<int64_t>(0, t - a.window + 1), t, t, n);
      }
      for (int64_t t = 0; t < a.length; ++t) {
        r.ddt[place(t)] *= slope[t];
        if (!a.gate.data) continue;
        const double z = a.gate.at(b, t)[c], s = logistic(z);
        r.dgate[place(t)] = dy.at(b, t)[c] * r.y[place(t)] * s * (1 + z * (1 - s));
        r.y[place(t)] *= z * s;
      }
    }
  return r;
}

struct NaiveConv {
  Numbers y, dx, dweight, dbias;
};

inline NaiveConv naive_conv(const ConvArguments& a, const Rows& dy) {
  NaiveConv r;
  for (Numbers* n : {&r.y, &r.dx}) n->assign(a.batch * a.length * a.channels, 0);
  r.dweight.assign(a.channels * a.taps, 0);
  r.dbias.assign(a.channels, 0);
  for (int64_t b = 0; b < a.batch; ++b)
    for (int64_t t = 0; t < a.length; ++t)
      for (int64_t c = 0; c < a.channels; ++c) {
        double s = a.bias[c];
        for (int64_t k = 0; k < a.taps; ++k)
          if (t - a.taps + 1 + k >= 0) s += double(a.weight[c * a.taps + k]) * a.x.at(b, t - a.taps + 1 + k)[c];
        const double sigma = logistic(s), slope = a.silu ? sigma * (1 + s * (1 - sigma)) : 1;
        r.y[(b * a.length + t) * a.channels + c] = a.silu ? s * sigma : s;
        const double ds = dy.at(b, t)[c] * slope;
        r.dbias[c] += ds;
        for (int64_t k = 0; k < a.taps; ++k) {
          const int64_t from = t - a.taps + 1 + k;
          if (from < 0) continue;
          r.dweight[c * a.taps + k] += ds * a.x.at(b, from)[c];
          r.dx[(b * a.length + from) * a.channels + c] += ds * a.weight[c * a.taps + k];
        }
      }
  return r;
}

struct NaiveDiagonal {
  Numbers h, da, db, dinitial;
};

// Values, and gradients of sum(dh * h), of the diagonal recurrence. Real channels are complex ones without imaginary
// part.
inline NaiveDiagonal naive_diagonal(const DiagonalArguments& a, const Rows& b, const Rows& dh) {
  using Complex = std::complex<double>;
  NaiveDiagonal r;
  for (Numbers* n : {&r.h, &r.db}) n->assign(a.batch * a.length * a.width, 0);
  r.da.assign(a.constant ? a.width : a.batch * a.length * a.width, 0);
  r.dinitial.assign(a.batch * a.width, 0);
  const auto get = [&](const float* p) { return Complex(p[0], a.complex ? p[1] : 0); };
  const auto add = [&](double* p, Complex v) {
    p[0] += v.real();
    if (a.complex) p[1] += v.imag();
  };
  std::vector<Complex> h(a.length + 1);
  for (int64_t row = 0; row < a.batch; ++row)
    for (int64_t c = 0; c < a.width; c += a.complex ? 2 : 1) {
      const auto place = [&](int64_t t) { return (row * a.length + t) * a.width + c; };
      h[0] = a.initial ? get(a.initial + row * a.width + c) : 0;
      for (int64_t t = 0; t < a.length; ++t) {
        h[t + 1] = get(a.a.at(row, t) + c) * h[t] + get(b.at(row, t) + c);
        add(&r.h[place(t)], h[t + 1]);
      }
      Complex g = 0;
      for (int64_t t = a.length - 1; t >= 0; --t) {
        g += get(dh.at(row, t) + c);
        add(&r.db[place(t)], g);
        add(&r.da[a.constant ? c : place(t)], g * std::conj(h[t]));
        g *= std::conj(get(a.a.at(row, t) + c));
      }
      add(&r.dinitial[row * a.width + c], g);
    }
  return r;
}
