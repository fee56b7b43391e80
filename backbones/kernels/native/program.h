// A program: what the layers of a stack compute for some tokens of each row, as a list of operations.
//
// Memory holds two kinds of arrays. A column is one number of every token: panels of kPanel tokens, and in a panel one
// feature after the other, so all arithmetic is between whole vectors and weights are read as PyTorch keeps them. A
// table has a token's numbers side by side, (batch, before + count, width), as states have. Its first `before` tokens
// are earlier ones. Token t of row b is number b * count + t.
#pragma once

#include "scan.h"

constexpr int64_t kPanel = 16;  // tokens in a panel

enum OperationKind : int64_t {
  kNorm, kProduct, kToTable, kToColumns, kTail, kConvolve, kScan, kScanWindow, kAttend
};
enum Activation : int64_t { kNone, kRelu, kGelu, kGeluTanh, kSilu };
enum Combine : int64_t { kSet, kAdd, kMultiply };  // what happens to the numbers that a product writes to

// `in` and `out` are columns (the first feature) or tables (the first number, counted from the tables' start).
struct Operation {
  int64_t kind, in, out;
  int64_t width, size;  // numbers of a token: of `in`, of `out`
  int64_t count, before;  // tokens of each row, and earlier tokens in the table
  int64_t mode, combine;  // an Activation; whether a norm subtracts the mean; a window; see each operation
  int64_t other;
  int64_t heads, groups, most, step;  // of attention: heads, those of keys; the longest context and a step, in tokens
  const float *weight, *bias;
  float *state, *state_2, *state_3;  // for each row; changed in place; null: the tokens are the first
  int64_t *numbers, *seen;  // of attention: each slot's token, and how many tokens were seen
  Rows x, gate;  // the input of the convolution, the gate of the scan, if they are in no table
};

struct Program {
  int64_t batch, count, features, length;  // tokens of a row; numbers of a token in all columns; operations
  const Operation* operations;
  float *columns, *tables, *scratch;
  Rows x;  // (batch, count, width): the program's input becomes the columns from 0 on
  float* y;  // (batch, width): the columns from 0 on, after the last operation
  int64_t width;

  int64_t panels(int64_t tokens) const { return (tokens + kPanel - 1) / kPanel; }
  float* column(int64_t panel, int64_t feature) const { return columns + (panel * features + feature) * kPanel; }
};
