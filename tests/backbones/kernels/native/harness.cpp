// Runs the kernels over many odd shapes, each buffer a heap block of exactly its size, and compares with naive.h. Meant
// for the sanitizers: an access one number past an end, a race or undefined arithmetic ends it. Prints how many cases
// it ran and the largest error, and exits with 1 if a number is wrong.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "naive.h"

extern "C" {
const char* backbench_instruction_set_at(int64_t);
int64_t backbench_use(const char*);
int64_t backbench_saved_size(const ScanArguments*);
int64_t backbench_groups(int64_t);
int64_t backbench_padded(int64_t);
int64_t backbench_scan_forward(const ScanForward*, int64_t threads);
int64_t backbench_scan_backward(const ScanBackward*, int64_t threads);
int64_t backbench_conv_forward(const ConvArguments*, float* y, int64_t threads);
int64_t backbench_conv_backward(const ConvBackward*, int64_t threads);
int64_t backbench_diagonal_forward(const DiagonalForward*, int64_t threads);
int64_t backbench_diagonal_backward(const DiagonalBackward*, int64_t threads);
}

extern const Kernels backbench_generic;
#ifdef BACKBENCH_HAS_AVX2
extern const Kernels backbench_avx2;
#endif
#ifdef BACKBENCH_HAS_AVX512
extern const Kernels backbench_avx512;
#endif

namespace {

constexpr double kTolerance = 1e-5;  // of an array's largest number

uint64_t seed = 1;

uint64_t random_bits() {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return seed;
}
double uniform(double low, double high) {
  return low + (high - low) * double(random_bits() >> 11) / double(1ull << 53);
}
int64_t one_of(std::initializer_list<int64_t> values) { return values.begin()[random_bits() % values.size()]; }

// A heap block whose last number ends where the block ends; every second one starts off a vector's alignment.
class Buffer {
 public:
  explicit Buffer(int64_t count, double low = 0, double high = 0)
      : count_(count), shift_(random_bits() % 2), block_(new float[size_t(count) + shift_]) {
    for (int64_t i = 0; i < count; ++i) data()[i] = float(uniform(low, high));
  }
  float* data() { return block_.get() + shift_; }
  int64_t size() const { return count_; }

 private:
  int64_t count_;
  size_t shift_;
  std::unique_ptr<float[]> block_;
};

// A (batch, length, d) input with gaps between tokens and rows where `gap` is not 0; the last row has none after it.
struct Input {
  int64_t time, row;
  Buffer buffer;
  Input(int64_t batch, int64_t length, int64_t d, int64_t gap, double low, double high)
      : time(d + gap),
        row(length * time + gap),
        buffer(batch > 0 && length > 0 ? (batch - 1) * row + (length - 1) * time + d : 0, low, high) {}
  Rows rows() { return {buffer.data(), row, time}; }
};

double worst = 0;
bool wrong = false;

void compare(const char* what, const std::string& where, const float* actual, const Numbers& expected) {
  double largest = 0.1, error = 0;  // inputs are about 1: below that, what is left of them cancelled
  for (double e : expected) largest = std::max(largest, std::fabs(e));
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::fabs(actual[i] - expected[i]);
    error = std::max(error, std::isnan(difference) ? HUGE_VAL : difference / largest);
  }
  worst = std::max(worst, error);
  if (error > kTolerance) {
    wrong = true;
    std::printf("%s: %s is off by %.1e\n", where.c_str(), what, error);
  }
}

// The sums of partial results: (groups, rows, width) -> (columns, rows), or (rows, columns).
Buffer total(Buffer& parts, int64_t groups, int64_t height, int64_t width, int64_t rows, int64_t columns) {
  Buffer out(rows * columns);
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) out.data()[c * rows + r] += parts.data()[(g * height + r) * width + c];
  return out;
}

const Kernels& kernels(const char* name) {
#ifdef BACKBENCH_HAS_AVX2
  if (std::strcmp(name, "avx2") == 0) return backbench_avx2;
#endif
#ifdef BACKBENCH_HAS_AVX512
  if (std::strcmp(name, "avx512") == 0) return backbench_avx512;
#endif
  return backbench_generic;
}

// What the library does, but with each group's scratch a block of exactly the size that was asked for.
template <typename Work>
void each_group(int64_t batch, int64_t scratch, Work work) {
  for (int64_t group = 0; group < backbench_groups(batch); ++group) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size_t(scratch) * sizeof(float)) != 0) std::abort();
    work(group, static_cast<float*>(memory));
    std::free(memory);
  }
}

struct Shape {
  int64_t batch, length, channels, state, window, gate, softplus, gap;
  std::string text(const char* set, int64_t threads) const {
    return std::string(set) + ", " + std::to_string(threads) + " threads, batch " + std::to_string(batch) + " length " +
           std::to_string(length) + " channels " + std::to_string(channels) + " state " + std::to_string(state) +
           " window " + std::to_string(window) + " gate " + std::to_string(gate) + " softplus " +
           std::to_string(softplus) + " gap " + std::to_string(gap);
  }
};

// threads = 0: the kernels are called directly, with scratch of exactly the size they ask for.
void scan_case(const Shape& s, const char* set, int64_t threads) {
  const int64_t wide = s.batch * s.length * s.channels, narrow = s.batch * s.length * s.state;
  Input x(s.batch, s.length, s.channels, s.gap, -2, 2), gate(s.batch, s.length, s.channels, s.gap, -3, 3);
  Input dt(s.batch, s.length, s.channels, s.gap, s.softplus ? -7 : 1e-3, 1);
  Input dy(s.batch, s.length, s.channels, 0, -1, 1);
  Input B(s.batch, s.length, s.state, s.gap, -2, 2), C(s.batch, s.length, s.state, s.gap, -2, 2);
  Buffer A(s.channels * s.state, -4, -0.01), D(s.channels, -1, 1);
  const Rows gates = s.gate ? gate.rows() : Rows{nullptr, 0, 0};
  const int64_t negative = s.window == 0 && s.gap;
  ScanArguments in = {s.batch,   s.length,  s.channels, s.state, s.window,  s.softplus, negative, x.rows(),
                      dt.rows(), B.rows(), C.rows(),   gates,   A.data(), D.data(),   nullptr};
  const int64_t padded_state = padded_states(s.state), width = backbench_padded(s.channels);
  const int64_t groups = backbench_groups(s.batch);
  Buffer decays(decays_size(in));
  for (int64_t c = 0; c < s.channels; ++c)
    for (int64_t n = 0; n < s.state; ++n)
      decays.data()[n * width + c] = A.data()[c * s.state + n] * 1.4426950408889634f;

  Buffer y(wide), ungated(wide), saved(backbench_saved_size(&in)), dx(wide), ddt(wide), dgate(wide);
  Buffer dB(narrow), dC(narrow), dA(groups * padded_state * width), dD(groups * width);
  ScanForward f = {in, y.data(), s.gate ? ungated.data() : nullptr, saved.data(), nullptr};
  ScanBackward b = {in, dy.rows(), s.gate ? ungated.data() : nullptr, saved.data(), dx.data(), ddt.data(), dB.data(),
                    dC.data(), s.gate ? dgate.data() : nullptr, dA.data(), dD.data()};
  if (threads > 0) {
    if (!backbench_scan_forward(&f, threads) || !backbench_scan_backward(&b, threads)) std::abort();
  } else {
    f.in.decays = b.in.decays = decays.data();
    f.in.window = b.in.window = window_of(in);
    const Kernels& k = kernels(set);
    each_group(s.batch, forward_scratch(f.in), [&](int64_t g, float* memory) { k.scan_forward(f, g, memory); });
    each_group(s.batch, backward_scratch(b.in), [&](int64_t g, float* memory) { k.scan_backward(b, g, memory); });
  }
  const NaiveScan expected = naive_scan(in, dy.rows());
  const std::string where = s.text(set, threads);
  compare("y", where, y.data(), expected.y);
  compare("dx", where, dx.data(), expected.dx);
  compare("ddt", where, ddt.data(), expected.ddt);
  compare("dB", where, dB.data(), expected.dB);
  compare("dC", where, dC.data(), expected.dC);
  if (s.gate) compare("dgate", where, dgate.data(), expected.dgate);
  compare("dA", where, total(dA, groups, padded_state, width, s.state, s.channels).data(), expected.dA);
  compare("dD", where, total(dD, groups, 1, width, 1, s.channels).data(), expected.dD);
  if (s.window > 0 || s.length == 0) return;

  // The same in two pieces, with the state carried from the one to the other.
  Buffer pieces(wide), state(s.batch * s.state * s.channels);
  const int64_t cuts[] = {0, s.length / 3, s.length};
  for (int i = 0; i < 2; ++i) {
    const int64_t first = cuts[i], count = cuts[i + 1] - first;
    ScanArguments piece = in;
    piece.length = count;
    for (Rows* rows : {&piece.x, &piece.dt, &piece.B, &piece.C, &piece.gate})
      if (rows->data && count > 0) rows->data += first * rows->time;
    Buffer part(s.batch * count * s.channels);
    const ScanForward on = {piece, part.data(), nullptr, nullptr, state.data()};
    if (!backbench_scan_forward(&on, threads)) std::abort();
    for (int64_t row = 0; row < s.batch; ++row)
      std::copy_n(part.data() + row * count * s.channels, count * s.channels,
                  pieces.data() + (row * s.length + first) * s.channels);
  }
  compare("y in pieces", where, pieces.data(), expected.y);
}

void conv_case(const Shape& s, int64_t taps, const char* set, int64_t threads) {
  const int64_t wide = s.batch * s.length * s.channels, groups = backbench_groups(s.batch);
  Input x(s.batch, s.length, s.channels, s.gap, -2, 2), dy(s.batch, s.length, s.channels, s.gap, -1, 1);
  Buffer weight(s.channels * taps, -1, 1), bias(s.channels, -1, 1);
  const ConvArguments in = {s.batch, s.length, s.channels, taps, s.gate, x.rows(), weight.data(), bias.data(), nullptr};
  Buffer y(wide), dx(wide), dweight(groups * taps * s.channels), dbias(groups * s.channels);
  const ConvBackward b = {in, dy.rows(), dx.data(), dweight.data(), dbias.data()};
  if (!backbench_conv_forward(&in, y.data(), threads) || !backbench_conv_backward(&b, threads)) std::abort();
  const NaiveConv expected = naive_conv(in, dy.rows());
  const std::string where = s.text(set, threads) + " taps " + std::to_string(taps);
  compare("y", where, y.data(), expected.y);
  compare("dx", where, dx.data(), expected.dx);
  compare("dweight", where, total(dweight, groups, taps, s.channels, taps, s.channels).data(), expected.dweight);
  compare("dbias", where, total(dbias, groups, 1, s.channels, 1, s.channels).data(), expected.dbias);
}

// state = 0: decays that change in time; gate: complex channels; softplus: a state before the first token.
void diagonal_case(const Shape& s, const char* set, int64_t threads) {
  const int64_t width = s.channels * (s.gate ? 2 : 1), wide = s.batch * s.length * width;
  const int64_t groups = backbench_groups(s.batch), constant = s.state != 0;
  Input decays(s.batch, s.length, width, s.gap, -0.7, 0.7), b(s.batch, s.length, width, s.gap, -1, 1);
  Input dh(s.batch, s.length, width, s.gap, -1, 1);
  Buffer one(width, -0.7, 0.7), initial(s.batch * width, -1, 1), h(wide), db(wide), dinitial(s.batch * width);
  Buffer da(constant ? groups * width : wide);
  const Rows a = constant ? Rows{one.data(), 0, 0} : decays.rows();
  const DiagonalArguments in = {s.batch, s.length, width, s.gate, constant, a, s.softplus ? initial.data() : nullptr};
  const DiagonalForward f = {in, b.rows(), h.data()};
  const DiagonalBackward g = {in, dh.rows(), h.data(), da.data(), db.data(), s.softplus ? dinitial.data() : nullptr};
  if (threads > 0) {
    if (!backbench_diagonal_forward(&f, threads) || !backbench_diagonal_backward(&g, threads)) std::abort();
  } else {
    const Kernels& k = kernels(set);
    each_group(s.batch, width, [&](int64_t group, float* memory) { k.diagonal_forward(f, group, memory); });
    each_group(s.batch, width, [&](int64_t group, float* memory) { k.diagonal_backward(g, group, memory); });
  }
  const NaiveDiagonal expected = naive_diagonal(in, b.rows(), dh.rows());
  const std::string where = "diagonal " + s.text(set, threads);
  compare("h", where, h.data(), expected.h);
  compare("db", where, db.data(), expected.db);
  if (s.softplus) compare("dinitial", where, dinitial.data(), expected.dinitial);
  if (constant)
    compare("da", where, total(da, groups, 1, width, 1, width).data(), expected.da);
  else
    compare("da", where, da.data(), expected.da);
}

}  // namespace

#include "program_cases.h"

int main(int, char** given) {
  const int64_t cases = given[1] ? std::atoll(given[1]) : 60;  // of each instruction set and number of threads
  int64_t ran = 0;
  for (int64_t i = 0; const char* set = backbench_instruction_set_at(i); ++i) {
    if (!backbench_use(set)) return 2;
    std::printf("%s\n", set);
    for (int64_t threads : {0, 1, 3})
      for (int64_t k = 0; k < cases; ++k) {
        const int64_t batch = one_of({1, 2, 3, 17}), length = one_of({1, 2, 5, 31, 32, 33, 60, 61, 64, 65, 97});
        const int64_t channels = one_of({1, 3, 8, 15, 17, 33}), state = one_of({1, 3, 4, 8, 17});
        Shape s = {batch, length, channels, state, k % 12, k / 2 % 2, k / 3 % 2, k / 5 % 2};
        if (s.window >= 10) s.window = one_of({20, length - 1, length, length + 1});
        if (s.window < 0) s.window = 0;
        if (s.batch > 3 && s.length > 40) s.channels = 5;
        scan_case(s, set, threads);
        conv_case(s, one_of({1, 2, 3, 4, 5, 9}), set, threads ? threads : 1);
        s.state = k % 2;
        diagonal_case(s, set, threads);
        ran += 3;
      }
    const uint64_t others = seed;  // the cases of the other kernels stay what they were
    for (int64_t k = 0; k < 2 * cases; ++k, ++ran) program_case(set, k);
    seed = others;
    // Large enough for threads of their own.
    for (int64_t window : {0, 3, 9}) scan_case({5, 70, 129, 20, window, 1, 1, 0}, set, 3);
    conv_case({16, 128, 129, 0, 0, 1, 0, 1}, 4, set, 3);
    diagonal_case({16, 70, 301, 0, 0, 1, 1, 1}, set, 3);
    diagonal_case({16, 70, 301, 1, 0, 1, 1, 1}, set, 3);
    for (int64_t state : {0, 1}) diagonal_case({0, 7, 5, state, 0, 1, 1, 0}, set, 1);
    for (int64_t state : {0, 1}) diagonal_case({2, 0, 5, state, 0, 1, 1, 0}, set, 1);
    scan_case({0, 7, 5, 3, 0, 1, 1, 0}, set, 1);
    scan_case({2, 0, 5, 3, 0, 1, 1, 0}, set, 1);
    conv_case({0, 7, 5, 0, 0, 1, 0, 0}, 4, set, 1);
    conv_case({2, 0, 5, 0, 0, 1, 0, 0}, 4, set, 1);
    ran += 14;
  }
  std::printf("%lld cases, largest error %.1e\n", static_cast<long long>(ran), worst);
  return wrong ? 1 : 0;
}
