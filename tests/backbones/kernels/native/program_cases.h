// Programs of one layer with every operation: all tokens at once against one after the other, with equal weights and
// the states carried on. Each array is a heap block of exactly its size. harness.cpp includes this after its helpers.
#pragma once

#include "program.h"

extern "C" {
int64_t backbench_program_scratch(const Program*);
int64_t backbench_program(const Program*);
}

namespace {

struct LayerSizes {
  int64_t batch, d, channels, states, taps, window, heads, groups, head, slots;
};

struct LayerWeights {
  Buffer norm, in, conv, bias, select, dt, A, D, out, qkv, up, down;
  explicit LayerWeights(const LayerSizes& s)
      : norm(s.d, 0.5, 1.5), in(2 * s.channels * s.d, -1, 1), conv(s.channels * s.taps, -1, 1), bias(s.channels, -1, 1),
        select((1 + 2 * s.states) * s.channels, -0.3, 0.3), dt(s.channels, -1, 1), A(s.channels * s.states, -1, 1),
        D(s.channels, -1, 1), out(s.d * s.channels, -0.3, 0.3), qkv((s.heads + 2 * s.groups) * s.head * s.d, -1, 1),
        up(3 * s.d, -1, 1), down(s.d * 3, -1, 1) {}
};

struct LayerStates {
  Buffer taps, scan, x, dt, B, cache;
  std::vector<int64_t> numbers, seen;
  explicit LayerStates(const LayerSizes& s)
      : taps(s.batch * (s.taps - 1) * s.channels), scan(s.batch * s.states * s.channels),
        x(s.batch * (s.window - 1) * s.channels), dt(s.batch * (s.window - 1) * s.channels),
        B(s.batch * (s.window - 1) * s.states), cache(s.batch * s.slots * 2 * s.groups * s.head),
        numbers(size_t(s.batch * s.slots), -1000), seen(size_t(s.batch), 0) {}
};

// Norm, a Mamba block with or without a window, attention, a feed-forward network: `count` tokens of each row.
void run_layer(const LayerSizes& s, LayerWeights& w, LayerStates& own, Rows x, int64_t count, float* y) {
  const int64_t d = s.d, c = s.channels, n = s.states, before = s.taps - 1, rows = s.batch * count;
  const int64_t attended = s.heads * s.head, qkv = (s.heads + 2 * s.groups) * s.head;
  const int64_t work = 2 * d, inputs = work + 2 * c;
  const int64_t u = s.batch * (before + count) * c, to_dt = 2 * u, selected = to_dt + rows * c;
  const int64_t mixed = selected + rows * 2 * n, tokens = mixed + rows * c, results = tokens + rows * qkv;
  std::vector<Operation> ops;
  const auto add = [&](OperationKind kind, int64_t in, int64_t out, int64_t width, int64_t size = 0) -> Operation& {
    ops.push_back({});
    Operation& o = ops.back();
    o.kind = kind, o.in = in, o.out = out, o.width = width, o.size = size, o.count = count;
    return o;
  };
  const auto product = [&](int64_t in, int64_t out, Buffer& weight, int64_t width, int64_t size, int64_t mode,
                           int64_t combine) {
    Operation& o = add(kProduct, in, out, width, size);
    o.weight = weight.data(), o.mode = mode, o.combine = combine;
  };
  Operation& norm = add(kNorm, 0, d, d);
  norm.weight = w.norm.data(), norm.mode = s.batch % 2;
  product(d, work, w.in, d, 2 * c, kNone, kSet);
  add(kToTable, work, 0, c).before = before;
  Operation& conv = add(kConvolve, 0, u, c, s.taps);
  conv.before = before, conv.weight = w.conv.data(), conv.bias = w.bias.data(), conv.state = own.taps.data();
  add(kToColumns, u, work, c).before = before;
  product(work, inputs, w.select, c, 1 + 2 * n, kNone, kSet);
  product(inputs, work, w.dt, 1, c, kNone, kSet);
  add(kToTable, work, to_dt, c);
  add(kToTable, inputs + 1, selected, 2 * n);
  Operation& scan = add(s.window > 1 ? kScanWindow : kScan, u, mixed, c, n);
  scan.before = before, scan.other = to_dt, scan.weight = w.A.data(), scan.bias = w.D.data();
  scan.mode = s.window > 1 ? s.window : 0, scan.state = s.window > 1 ? own.x.data() : own.scan.data();
  scan.state_2 = own.dt.data(), scan.state_3 = own.B.data();
  add(kToColumns, mixed, work, c);
  product(d, work + c, w.in, d, c, kSilu, kSet);
  product(work + c, work, w.A, 0, c, kGelu, kAdd);  // of no numbers: adds gelu(0)
  product(work, 0, w.out, c, d, kNone, kAdd);
  product(0, work, w.qkv, d, qkv, kNone, kSet);
  add(kToTable, work, tokens, qkv);
  Operation& attend = add(kAttend, tokens, results, qkv, attended);
  attend.mode = 1, attend.other = s.slots, attend.heads = s.heads, attend.groups = s.groups;
  attend.most = s.slots - 2, attend.step = 3, attend.combine = s.window;
  attend.state = own.cache.data(), attend.numbers = own.numbers.data(), attend.seen = own.seen.data();
  Operation& last = add(kTail, 0, 0, d);
  last.count = 1, last.before = count - 1;
  Operation& back = add(kToColumns, results, work, attended);
  back.count = 1, back.before = count - 1;
  const size_t from = ops.size();
  product(work, work + attended, w.up, std::min(d, attended), 3, kGeluTanh, kSet);
  product(0, work + attended, w.up, d, 3, kSilu, kMultiply);
  product(work + attended, 0, w.down, 3, d, kRelu, kAdd);
  for (size_t i = from; i < ops.size(); ++i) ops[i].count = 1;
  const int64_t features = std::max(inputs + 1 + 2 * n, work + qkv + 3);
  Program p = {s.batch, count, features, int64_t(ops.size()), ops.data()};
  const int64_t panels = p.panels(rows);
  Buffer columns(panels * kPanel * features), tables(results + rows * attended), scratch(backbench_program_scratch(&p));
  p.columns = columns.data(), p.tables = tables.data(), p.scratch = scratch.data();
  p.x = x, p.y = y, p.width = d;
  if (!backbench_program(&p)) std::abort();
}

void program_case(const char* set, int64_t k) {
  const int64_t heads = one_of({1, 2, 4}), length = one_of({1, 2, 3});
  const LayerSizes s = {one_of({1, 2, 5, 17}), one_of({1, 5, 8, 24}), one_of({1, 5, 17, 32}), one_of({1, 4, 5, 17}),
                        one_of({1, 2, 4, 6}),  one_of({1, 2, 3, 9}),  heads, k % 2 ? heads : 1, one_of({1, 3, 8, 33}),
                        one_of({3, 5, 20})};
  LayerWeights weights(s);
  LayerStates one(s), other(s);
  for (int round = 0; round < 4; ++round) {
    Input x(s.batch, length, s.d, k % 3, -2, 2);
    Buffer y(s.batch * s.d), z(s.batch * s.d);
    run_layer(s, weights, one, x.rows(), length, y.data());
    for (int64_t t = 0; t < length; ++t) {
      Rows token = x.rows();
      token.data += t * token.time;
      run_layer(s, weights, other, token, 1, z.data());
    }
    compare("y of a program", std::string(set) + " case " + std::to_string(k), y.data(),
            Numbers(z.data(), z.data() + z.size()));
  }
}

}  // namespace
