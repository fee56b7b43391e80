// Does the same piece of work a given number of times, for counting instructions:
//   count <set> <scan or conv> <length> <channels> <window> <times>
// It is linked with the library that the package installs.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "scan.h"

extern "C" {
const char* backbench_instruction_set();
int64_t backbench_use(const char*);
int64_t backbench_saved_size(const ScanArguments*);
int64_t backbench_scan_forward(const ScanForward*, int64_t threads);
int64_t backbench_scan_backward(const ScanBackward*, int64_t threads);
int64_t backbench_conv_forward(const ConvArguments*, float* y, int64_t threads);
int64_t backbench_conv_backward(const ConvBackward*, int64_t threads);
}

namespace {

constexpr int64_t kBatch = 2, kState = 16, kTaps = 4;

// Numbers within [low, high], cheaper than random ones: they change neither what is computed nor how often.
std::vector<float> numbers(int64_t count, float low, float high) {
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = low + (high - low) * static_cast<float>(i % 97) / 96.0f;
  return out;
}

}  // namespace

int main(int count, char** given) {
  if (count != 7 || !backbench_use(given[1])) return 2;
  const bool scan = std::strcmp(given[2], "scan") == 0;
  const int64_t length = std::atoll(given[3]), channels = std::atoll(given[4]);  // channels: a multiple of 16
  const int64_t window = std::atoll(given[5]), times = std::atoll(given[6]);
  const int64_t wide = kBatch * length * channels, narrow = kBatch * length * kState;
  auto x = numbers(wide, -1, 1), dt = numbers(wide, -6, 0), gate = numbers(wide, -2, 2), dy = numbers(wide, -1, 1);
  auto B = numbers(narrow, -1, 1), C = numbers(narrow, -1, 1), A = numbers(channels * kState, -9, -0.1f);
  auto D = numbers(channels, 0, 1), taps = numbers(channels * kTaps, -1, 1);
  std::vector<float> y(x), ungated(x), dx(x), ddt(x), dgate(x), dB(B), dC(C);
  std::vector<float> dA(kBatch * kState * channels), dD(kBatch * channels), dtaps(kBatch * kTaps * channels);
  const auto rows = [&](const std::vector<float>& v, int64_t d) { return Rows{v.data(), length * d, d}; };
  const ScanArguments in = {kBatch, length, channels, kState, window, 1, 0, rows(x, channels), rows(dt, channels),
                            rows(B, kState), rows(C, kState), rows(gate, channels), A.data(), D.data(), nullptr};
  std::vector<float> saved(static_cast<size_t>(backbench_saved_size(&in)));
  const ScanForward f = {in, y.data(), ungated.data(), saved.data(), nullptr};
  const ScanBackward b = {in, rows(dy, channels), ungated.data(), saved.data(), dx.data(), ddt.data(), dB.data(),
                          dC.data(), dgate.data(), dA.data(), dD.data()};
  const ConvArguments conv = {kBatch, length, channels, kTaps, 1, rows(x, channels), taps.data(), D.data(), nullptr};
  const ConvBackward conv_back = {conv, rows(dy, channels), dx.data(), dtaps.data(), dD.data()};
  for (int64_t i = 0; i < times; ++i) {
    const bool done = scan ? backbench_scan_forward(&f, 1) && backbench_scan_backward(&b, 1)
                           : backbench_conv_forward(&conv, y.data(), 1) && backbench_conv_backward(&conv_back, 1);
    if (!done) return 3;
  }
  std::printf("%s\n", backbench_instruction_set());
}
