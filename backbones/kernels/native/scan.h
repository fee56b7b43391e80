// Arguments of the kernels, the same for every instruction set. All numbers are single precision.
#pragma once

#include <cstdint>

// A (batch, length, d) array whose last dimension is contiguous. Strides count numbers, not bytes.
struct Rows {
  const float* data;
  int64_t row, time;
  const float* at(int64_t b, int64_t t) const { return data + b * row + t * time; }
};

struct ScanArguments {
  int64_t batch, length, channels, state;
  int64_t window;  // tokens that are remembered; 0: all
  int64_t softplus;  // whether softplus is still to be applied to dt
  int64_t negative;  // whether decays are 2 exp(dt A) - 1; without a window only
  Rows x, dt, B, C, gate;  // gate.data may be null
  const float *A, *D;  // (channels, state), (channels)
  const float* decays;  // filled in by the library, see decays_size
};

struct ScanForward {
  ScanArguments in;
  float *y, *ungated;  // (batch, length, channels); ungated, y before the gate, may be null
  float* saved;  // states at the starts of chunks, see saved_size; may be null
  float* carried;  // (batch, state, channels): the state before the first token, then that after the last; may be null
};

struct ScanBackward {
  ScanArguments in;
  Rows dy;
  const float *ungated, *saved;
  float *dx, *ddt, *dB, *dC, *dgate;  // contiguous, with the shapes of x, dt, B, C and gate; dgate may be null
  float *dA, *dD;  // zeros; one partial sum for each group of rows: (groups, padded state, padded), (groups, padded)
};

struct ConvArguments {
  int64_t batch, length, channels, taps, silu;
  Rows x;
  const float *weight, *bias;  // (channels, taps), (channels)
  const float* taps_first;  // the weight as (taps, channels); filled in by the library
};

struct ConvBackward {
  ConvArguments in;
  Rows dy;
  float *dx;  // (batch, length, channels)
  float *dweight, *dbias;  // one partial sum for each group of rows: (groups, taps, channels), (groups, channels)
};

struct DiagonalArguments {
  int64_t batch, length;
  int64_t width;  // numbers of one token's state: its channels, or twice as many if they are complex
  int64_t complex;  // whether a number pair is one complex channel
  int64_t constant;  // whether a is the same for all rows and tokens; its strides are zero then
  Rows a;
  const float* initial;  // (batch, width): the state before the first token; null: zero
};

struct DiagonalForward {
  DiagonalArguments in;
  Rows b;
  float* h;  // (batch, length, width)
};

struct DiagonalBackward {
  DiagonalArguments in;
  Rows dh;
  const float* h;
  float* da;  // zeros; (batch, length, width), or if a is constant one partial sum for each group: (groups, width)
  float *db, *dinitial;  // (batch, length, width), (batch, width); dinitial may be null
};

// States that are scanned together: their recurrences hide each other's latency.
constexpr int kBlock = 4;
// Tokens whose states the backward pass holds at a time. With their decays they fit the first-level cache.
constexpr int64_t kChunk = 32;
// Rows are summed in at most this many groups, in order within each. The groups do not depend on the number of threads,
// so sums over the batch have one order.
constexpr int64_t kGroups = 16;

inline int64_t chunks(int64_t length) { return length > 0 ? (length + kChunk - 1) / kChunk : 1; }
inline int64_t chunk_size(int64_t length) { return length > 0 ? (length - 1) / chunks(length) + 1 : 1; }
constexpr int64_t kLongestDirect = 6;  // scan_window.h scans windows up to this length, scan_long.h longer ones
// Tokens that are scanned at a time.
inline int64_t part_size(const ScanArguments& a) {
  return a.window == 1 || a.window > kLongestDirect ? a.window : chunk_size(a.length);
}
constexpr int64_t kWidest = 16;  // numbers in the widest vector
inline int64_t padded(int64_t channels) { return (channels + kWidest - 1) / kWidest * kWidest; }
inline int64_t groups(int64_t batch) { return batch < kGroups ? batch : kGroups; }
// Rows of group g: from first_row(g) up to first_row(g + 1).
inline int64_t first_row(int64_t batch, int64_t g) { return batch * g / groups(batch); }
inline int64_t padded_states(int64_t state) { return (state + kBlock - 1) / kBlock * kBlock; }
// Size of A * log2(e) as (padded state, padded channels), which makes exp(dt A) a power of 2. The padding is zero, so
// it does not decay.
inline int64_t decays_size(const ScanArguments& a) { return padded_states(a.state) * padded(a.channels); }
// A window as long as the sequence means no window.
inline int64_t window_of(const ScanArguments& a) { return a.window < a.length ? a.window : 0; }
// Size of `saved`: (batch, chunks - 1, padded state, padded channels). Zero with a window.
inline int64_t saved_size(const ScanArguments& a) {
  return window_of(a) ? 0 : a.batch * (chunks(a.length) - 1) * padded_states(a.state) * padded(a.channels);
}

struct Program;  // see program.h

// The kernels of one instruction set. Each computes the rows of one group. `*_scratch` gives the size of its scratch.
struct Kernels {
  const char* name;
  void (*scan_forward)(const ScanForward&, int64_t group, float* scratch);
  void (*scan_backward)(const ScanBackward&, int64_t group, float* scratch);
  void (*conv_forward)(const ConvArguments&, float* y, int64_t group);
  void (*conv_backward)(const ConvBackward&, int64_t group, float* scratch);
  void (*diagonal_forward)(const DiagonalForward&, int64_t group, float* scratch);
  void (*diagonal_backward)(const DiagonalBackward&, int64_t group, float* scratch);
  void (*run_program)(const Program&);  // all rows
};

int64_t forward_scratch(const ScanArguments& a);
int64_t backward_scratch(const ScanArguments& a);
